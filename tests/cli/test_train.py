"""``tisslm train``: what it writes and prints, and that a resumed run is the same run."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.numpy import load_file

from tisslm.config import RunConfig
from tisslm.contracts import Rows
from tisslm.training.session import Session
from tisslm.training.step import StepResult

if TYPE_CHECKING:
    from conftest import Cli


def parameters(run: Path, step: int) -> bytes:
    return (run / "checkpoints" / f"checkpoint-{step}" / "model.safetensors").read_bytes()


def test_a_run_leaves_its_files_a_sample_and_its_path(train: Cli, folder: Path) -> None:
    result = train("training.output_dir=run")
    assert (result.code, result.err) == (0, "")
    assert "training windows and" in result.out
    assert "6/6 (100.0%) | eval loss " in result.out
    assert "\nsample:\n" in result.out
    assert result.out.endswith("run: run\nmore of it: tisslm generate run\n")
    names = {path.name for path in (folder / "run").iterdir()}
    written = {"config.resolved.toml", "environment.json", "metrics.jsonl", "summary.json"}
    assert names == written | {"checkpoints"}
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("completed", 6)
    assert summary["eval_loss"] < 3.4
    assert f"{summary['parameters']:,} parameters" in result.out


def test_a_run_that_finds_nothing_to_go_on_from_says_so(train: Cli) -> None:
    def begun(*settings: str) -> str:
        out = train(*settings, more=("--resume", "auto")).out
        return next(line for line in out.splitlines() if line.startswith("run: "))

    first = begun()
    assert ", from the start: no run of this name and configuration has a checkpoint" in first
    assert ", complete at step 6" in begun()
    assert ", from the start: no run of this name" in begun("training.max_steps=7")
    assert begun("training.output_dir=new") == "run: new, from the start: it has no checkpoint"


def test_the_default_run_is_a_character_model_on_the_python_docs(cli: Cli, folder: Path) -> None:
    flags = ["model.n_layer=1", "model.n_embd=16", "model.n_head=1", "training.max_steps=1"]
    result = cli("train", *[x for flag in flags for x in ("--set", flag)])
    assert (result.code, result.err) == (0, "")
    (run,) = (folder / "runs").iterdir()
    assert run.name.startswith("python-docs-")
    assert result.out.splitlines()[-2] == f"run: runs/{run.name}"
    # A uniform guess over the characters, before any learning, is their number's logarithm.
    assert json.loads((run / "summary.json").read_text())["eval_loss"] == pytest.approx(
        4.6, abs=0.3
    )


def test_a_file_is_read_and_the_command_line_wins(cli: Cli, folder: Path) -> None:
    (folder / "run.toml").write_text(
        '[data]\npath = "text.txt"\n[tokenizer]\nname = "byte"\n'
        "[model]\nn_layer = 1\nn_head = 1\nn_embd = 8\nseq_len = 8\n"
        '[scheduler]\nname = "constant"\n'
        '[training]\nmax_steps = 2\noutput_dir = "a"\n'
    )
    assert cli("train", "run.toml", "--set", "training.output_dir=b").code == 0
    assert not (folder / "a").exists()
    resolved = RunConfig.load(folder / "b" / "config.resolved.toml", env={})
    assert (resolved.tokenizer.name, resolved.training.max_steps) == ("byte", 2)


def test_going_on_from_a_path_gives_the_bits_of_the_uninterrupted_run(
    train: Cli, folder: Path
) -> None:
    settings = ("model.dropout=0.1", "training.save_every=3", "training.output_dir=whole")
    whole = train(*settings)
    again = train(
        *settings[:2],
        "training.output_dir=again",
        more=("--resume", "whole/checkpoints/checkpoint_step_3.bin"),
    )
    assert (whole.code, again.code) == (0, 0)
    assert "run: again, going on from step 3\n" in again.out
    assert parameters(folder / "again", 6) == parameters(folder / "whole", 6)
    assert parameters(folder / "again", 6) != parameters(folder / "whole", 3)


def test_auto_goes_on_with_the_run_that_was_interrupted(
    train: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("training.output_dir=whole", "training.save_every=3")
    step = Session.train_step

    def interrupted(session: Session, batch: Rows) -> StepResult:
        if session.state.step == 4:
            raise KeyboardInterrupt
        return step(session, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "train_step", interrupted)
        first = train("training.save_every=3", more=("--resume", "auto"))
    (run,) = (folder / "runs").iterdir()
    assert (whole.code, first.code) == (0, 130)
    assert first.err == (
        f"interrupted at step 4; go on with --resume runs/{run.name}/checkpoints/checkpoint-3\n"
    )
    second = train("training.save_every=3", more=("--resume", "auto"))
    assert second.code == 0
    assert f"run: runs/{run.name}, going on from step 3\n" in second.out
    assert [path.name for path in (folder / "runs").iterdir()] == [run.name]
    assert parameters(run, 6) == parameters(folder / "whole", 6)
    third = train("training.save_every=3", more=("--resume", "auto"))
    assert third.code == 0
    assert f"run: runs/{run.name}, complete at step 6\n" in third.out


def test_an_interruption_before_the_first_checkpoint_says_so(
    train: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "train_step", interrupt)
    result = train()
    assert (result.code, result.err) == (
        130,
        "interrupted at step 0; there is no checkpoint yet\n",
    )


@pytest.mark.parametrize(
    "settings",
    [
        ("data.valid_fraction=0",),
        ("data.valid_path=text.txt",),
        ("tokenizer.name=byte",),
        ("tokenizer.name=bpe", "tokenizer.vocab_size=300"),
        ("model.vocab_size=64",),
        ("training.max_steps=-1", "training.epochs=1"),
        ("training.gradient_accumulation_steps=2",),
        ("log.sinks=jsonl,csv", "training.log_gradients=true"),
        ("loss.name=focal", "loss.gamma=1.5"),
    ],
    ids=lambda settings: settings[0],
)
@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
def test_a_run_completes_with(train: Cli, folder: Path, settings: tuple[str, ...]) -> None:
    result = train(*settings, "training.output_dir=run")
    assert (result.code, result.err) == (0, "")
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert (summary["eval_loss"] is None) == (settings[0] == "data.valid_fraction=0")


def test_the_tokenizer_knows_the_validation_text_too(train: Cli, folder: Path) -> None:
    (folder / "valid.txt").write_text("ÄÖÜ" * 20, encoding="utf-8")
    result = train("data.valid_path=valid.txt", "training.output_dir=run")
    assert result.code == 0
    assert "vocabulary 32," in result.out


def test_a_given_vocabulary_is_the_models(train: Cli, folder: Path) -> None:
    assert train("model.vocab_size=64", "training.output_dir=run").code == 0
    arrays = load_file(folder / "run/checkpoints/checkpoint-6/model.safetensors")
    assert arrays["transformer.wte.weight"].shape == (64, 16)


# --------------------------------------------------------------------------- other datasets

IDS = f"[{', '.join(str(i % 7) for i in range(200))}]"
OTHER = {"name": "tokens", "tokens": [i % 7 for i in range(200)]}
SHAPE = {"n_layer": 1, "n_head": 1, "n_embd": 8, "seq_len": 8}


@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
def test_another_dataset_is_built_by_name_with_the_models_seq_len(cli: Cli, folder: Path) -> None:
    lines = [f"{key} = {value}" for key, value in SHAPE.items()]
    (folder / "run.toml").write_text(
        f'[data]\nname = "tokens"\ntokens = {IDS}\n[model]\n' + "\n".join(lines) + "\n"
        '[training]\nmax_steps = 2\noutput_dir = "run"\n'
    )
    result = cli("train", "run.toml")
    assert (result.code, result.err) == (0, "")
    assert "24 training windows of 8 tokens, vocabulary 7," in result.out
    assert "sample" not in result.out
    assert not (folder / "run/checkpoints/checkpoint-2/tokenizer.json").exists()


def test_another_dataset_needs_a_large_enough_vocabulary(cli: Cli, folder: Path) -> None:
    lines = [f"{key} = {value}" for key, value in SHAPE.items()]
    (folder / "run.toml").write_text(
        f'[data]\nname = "tokens"\ntokens = {IDS}\n[model]\nvocab_size = 6\n' + "\n".join(lines)
    )
    result = cli("train", "run.toml")
    assert (result.code, result.err) == (
        3,
        "error: model.vocab_size: expected at least 7, the number of ids of the dataset, got 6; "
        "leave it out or raise it\n",
    )


def test_windows_longer_than_the_models_are_refused(cli: Cli, folder: Path) -> None:
    lines = [f"{key} = {value}" for key, value in SHAPE.items()]
    (folder / "run.toml").write_text(
        f'[data]\nname = "tokens"\nseq_len = 16\ntokens = {IDS}\n[model]\n' + "\n".join(lines)
    )
    result = cli("train", "run.toml")
    assert (result.code, result.err) == (
        3,
        "error: dataset: its windows have 16 tokens, the model takes at most 8; set the same "
        "seq_len for both\n",
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_after_the_run_ends_the_sample_alone(train, monkeypatch, number):
    def interrupted(*_):
        signal.raise_signal(number)
        yield "never"

    monkeypatch.setattr("tisslm.cli.train.sample", interrupted)
    result = train("training.output_dir=run")
    assert (result.code, result.err) == (0, "")
    assert "never" not in result.out
    assert "run: run\nmore of it: " in result.out
