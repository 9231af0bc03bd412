"""Durations become steps for the data and the rows of an update, and a run records both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tisslm.config import ConfigNote, RunConfig
from tisslm.errors import ConfigError
from tisslm.registry import load_registry
from tisslm.workflows.build.trainer import build_trainer, read_run

SIZES = {"n_layer": 1, "n_head": 2, "n_embd": 8, "seq_len": 10}


def tables(folder: Path, **training: Any) -> dict[str, Any]:
    (folder / "text.txt").write_text("ten chars." * 100)  # 99 windows: 25 updates of 4 rows
    scheduler = {"warmup_steps": training.pop("warmup_steps", 0)}
    return {
        "data": {"path": str(folder / "text.txt"), "valid_fraction": 0},
        "model": SIZES,
        "scheduler": scheduler,
        "training": {"batch_size": 4, "name": "spans", **training},
        "log": {"sinks": []},
    }


@pytest.mark.parametrize(
    ("training", "expected", "words"),
    [
        ({"max_steps": "2ep"}, 50, 'max_steps = "2ep" is 50 steps, of 25 in an epoch'),
        ({"max_steps": "0.001ep"}, 1, 'max_steps = "0.001ep" is 1 steps, of 25 in an epoch'),
        ({"max_steps": "81tok"}, 3, 'max_steps = "81tok" is 3 steps of 40 tokens'),
        ({"max_steps": "7ba"}, 7, 'max_steps = "7ba" is 7 steps'),
        (
            {"max_steps": "2ep", "gradient_accumulation_steps": 2},
            26,
            'max_steps = "2ep" is 26 steps, of 13 in an epoch',
        ),
        (
            {"max_steps": "2ep", "overfit_batches": 3},
            6,
            'max_steps = "2ep" is 6 steps, of 3 in an epoch',
        ),
    ],
)
def test_a_run_has_as_many_steps(
    tmp_path: Path, training: dict[str, Any], expected: int, words: str
) -> None:
    config = RunConfig.from_mapping(tables(tmp_path, **training))
    with pytest.warns(ConfigNote) as notes:
        read = read_run(config, load_registry())
    assert read.config.training.max_steps == expected
    assert [str(note.message) for note in notes] == [f"training.{words}"]


@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
def test_shares_are_of_the_run_and_ranks_are_counted(tmp_path: Path) -> None:
    said = {"max_steps": "2ep", "save_every": "10%", "warmup_steps": "50%"}
    config, registry = RunConfig.from_mapping(tables(tmp_path, **said)), load_registry()
    found = read_run(config, registry).config
    assert (found.training.save_every, found.scheduler.options["warmup_steps"]) == (5, 25)
    shared = read_run(config, registry, 2).config  # 8 rows an update
    assert (shared.training.max_steps, shared.training.save_every) == (26, 3)
    whole = RunConfig.from_mapping(tables(tmp_path, **said, global_batch_size=8))
    for ranks in (1, 2):
        assert read_run(whole, registry, ranks).config.training.max_steps == 26
    epochs = RunConfig.from_mapping(tables(tmp_path, epochs=4, save_every="10%"))
    assert read_run(epochs, registry).config.training.save_every == 10


@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
def test_the_scheduler_that_takes_it_is_meant(tmp_path: Path) -> None:
    said = tables(tmp_path, max_steps=40)
    said["scheduler"] = {"step_size": "25%"}
    found = read_run(RunConfig.from_mapping(said), load_registry()).config
    assert found.scheduler == ("step", {"step_size": 10})


@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
def test_a_run_records_both_and_goes_on_by_what_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = {"max_steps": "0.2ep", "save_every": "0.04ep"}
    trainer = build_trainer(RunConfig.from_mapping(tables(tmp_path, **said)))
    trainer.train()
    assert trainer.max_steps == 5
    assert len(list(trainer.run.checkpoints.iterdir())) == 3  # of five, the newest
    recorded = RunConfig.load(trainer.run.path / "config.resolved.toml", env={}).resolved()
    assert (recorded["training"]["max_steps"], recorded["training"]["save_every"]) == (5, 1)
    assert recorded["durations"] == said
    again = build_trainer(RunConfig.from_mapping(tables(tmp_path, **said, resume="auto")))
    assert again.run.path == trainer.run.path
    assert again.current_step == 5
    (tmp_path / "other").mkdir()
    other = RunConfig.from_mapping(tables(tmp_path, **{**said, "max_steps": "0.3ep"}))
    other.training.resume = "auto"
    assert build_trainer(other).current_step == 0


@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("preferences", '{"prompt": "1 + 1", "chosen": " 2", "rejected": " 3"}\n'),
        ("examples", '{"anchor": "a text", "positive": "another"}\n'),
    ],
)
def test_what_has_any_number_of_tokens_is_not_counted_in_them(
    tmp_path: Path, name: str, line: str
) -> None:
    said = tables(tmp_path, max_steps="81tok")
    (tmp_path / "some.jsonl").write_text(line * 8)
    said["data"] = {"name": name, "path": str(tmp_path / "some.jsonl"), "valid_fraction": 0}
    if name == "examples":
        said["model"] = {**SIZES, "pooling": "mean"}
        said["loss"] = {"name": "contrastive"}
    said["tokenizer"] = {"name": "byte"}
    with pytest.raises(ConfigError, match="max_steps: expected epochs or steps, since examples"):
        read_run(RunConfig.from_mapping(said), load_registry())
