"""The teacher of a run: found by its path, counted in the plan, or refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tisslm.config import RunConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.optim.losses import Distillation
from tisslm.registry import load_registry
from tisslm.workflows.export import write_folder
from tisslm.workflows.open_model import open_model
from tisslm.workflows.build.trainer import build_trainer, plan_run, read_run


def run_of(folder: Path, name: str, **sections: dict[str, Any]) -> RunConfig:
    """Return the configuration of a small run on a text of its own."""
    path = folder / "text.txt"
    path.write_text("abcd efgh " * 60, encoding="utf-8")
    tables: dict[str, dict[str, Any]] = {
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "seq_len": 16},
        "data": {"path": str(path), "valid_fraction": 0.0},
        "tokenizer": {"name": "char"},
        "training": {"max_steps": 2, "batch_size": 4, "output_dir": str(folder / name)},
        "log": {"sinks": []},
    }
    for section, values in sections.items():
        tables[section] = {**tables.get(section, {}), **values}
    return RunConfig.from_mapping(tables)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    """Train a teacher, and return its path."""
    trainer = build_trainer(run_of(tmp_path, "teacher", model={"n_embd": 32}))
    trainer.train()
    return str(trainer.run.path)


def distilled(path: str | None, **options: Any) -> dict[str, Any]:
    return {"name": "distillation", **({} if path is None else {"teacher": path}), **options}


def test_a_run_learns_from_a_teacher_that_the_plan_counts(tmp_path: Path, teacher: str) -> None:
    loss = distilled(teacher, temperature=2.0)
    config = run_of(tmp_path, "student", loss=loss, log={"sinks": ["jsonl"]})
    registry = load_registry()
    plain = plan_run(read_run(run_of(tmp_path, "plain"), registry), registry).plan().by_family
    found = plan_run(read_run(config, registry), registry).plan().by_family
    loaded = build_trainer(config)
    assert isinstance(loaded.loss_fn, Distillation)
    weights = loaded.loss_fn._teacher.parameters.data.nbytes
    assert found["parameters"] - plain["parameters"] == weights
    assert found["gradients"] == plain["gradients"]
    loaded.train()
    assert loaded.current_step == 2
    assert loaded.settings["loss"]["teacher"] == teacher
    first = json.loads((loaded.run.path / "metrics.jsonl").read_text("utf-8").splitlines()[0])
    assert "train/loss" in first
    assert "train/perplexity" not in first  # of a divergence it would be none


def test_a_run_that_goes_on_has_the_teacher_that_it_had(tmp_path: Path, teacher: str) -> None:
    def go_on(steps: int, name: str, **sections: dict[str, Any]) -> None:
        training = {"max_steps": steps, "resume": "auto"}
        constant = {"name": "constant"}
        build_trainer(
            run_of(tmp_path, name, training=training, scheduler=constant, **sections)
        ).train()

    loss = distilled(teacher)
    go_on(1, "student", loss=loss)
    go_on(2, "student", loss=loss)
    Path(teacher).rename(tmp_path / "before")
    go_on(1, "teacher", model={"n_embd": 32})  # its path now leads to other weights
    with pytest.raises(CheckpointError, match=r"loss\.teacher: expected the weights that the run"):
        go_on(3, "student", loss=loss)


def test_what_cannot_teach_is_refused(tmp_path: Path, teacher: str) -> None:
    def refused(kind: type[Exception], message: str, **sections: dict[str, Any]) -> None:
        with pytest.raises(kind, match=message):
            build_trainer(run_of(tmp_path, "student", **sections))

    refused(ConfigError, r"loss\.teacher: expected the path of a model .*got none", loss=distilled(None))
    refused(
        ConfigError,
        r"loss\.teacher: .* does not change while the run goes on, got .* of its own training\.outp",
        loss=distilled(teacher),
        training={"output_dir": teacher},
    )
    refused(CheckpointError, r"loss\.teacher: .*nowhere", loss=distilled(str(tmp_path / "nowhere")))
    refused(
        ConfigError,
        r"loss\.teacher: expected a model of 256 token ids, .*teacher.* of 9; take one",
        loss=distilled(teacher),
        tokenizer={"name": "byte"},
    )
    refused(
        ConfigError,
        r"loss\.teacher: expected a context of at least model\.seq_len, 24 tokens, got .* of 16",
        loss=distilled(teacher),
        model={"seq_len": 24},
    )


def test_a_teacher_that_was_exported_has_the_same_tokenizer(tmp_path: Path, teacher: str) -> None:
    opened = open_model(teacher, load_registry())
    model: Any = opened.build(opened.shape({}))
    write_folder(str(tmp_path / "folder"), model, opened.tokenizer)
    trainer = build_trainer(run_of(tmp_path, "student", loss=distilled(str(tmp_path / "folder"))))
    assert isinstance(trainer.loss_fn, Distillation)
    (tmp_path / "other.txt").write_text("zbcd yfgh " * 60, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"got .*folder with another, whose ids mean other"):
        build_trainer(
            run_of(
                tmp_path,
                "student",
                loss=distilled(str(tmp_path / "folder")),
                data={"path": str(tmp_path / "other.txt")},
            )
        )
