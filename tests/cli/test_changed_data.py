"""Files that are cut while a command reads them: a sentence, and what was reached is saved."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interruptions import differences

from tisslm import Transformer
from tisslm.checkpoint.run_directory import RunDirectory

SENTENCE = (
    "error: {}: expected 40000 bytes as when it was opened, got 6; do not write a file that a run "
    "reads, replace it by rename\n"
)
SETTINGS = (
    "model.n_layer=1",
    "model.n_head=2",
    "model.n_embd=16",
    "model.seq_len=16",
    "training.batch_size=4",
    "data.path=train.bin",
    "data.valid_path=valid.bin",
    "data.vocab_size=50",
    "training.max_steps=8",
    "training.validation_frequency=2",
    "training.save_every=0",
)


@pytest.fixture(autouse=True)
def _tokens(folder: Path) -> None:
    for seed, name in enumerate(("train.bin", "valid.bin")):
        ids = np.random.default_rng(seed).integers(0, 50, 20_000).astype("<u2")
        ids.tofile(folder / name)


@pytest.fixture
def cut_at_pass(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], None]:
    """Cut a file in the middle of the n-th pass of a model."""

    def prepare(number: int, name: str) -> None:
        passes = iter(range(1, 10_000))
        real = Transformer.step_loss

        def step_loss(*arguments: Any, **options: Any) -> float:
            if next(passes) == number:
                os.truncate(name, 6)
            return real(*arguments, **options)

        monkeypatch.setattr(Transformer, "step_loss", step_loss)

    return prepare


def train(cli: Any, folder: str, *more: str) -> Any:
    arguments = [*SETTINGS, f"training.output_dir={folder}", "training.eval_batches=1", *more]
    return cli("train", *(word for setting in arguments for word in ("--set", setting)))


@pytest.mark.parametrize("name", ["train.bin", "valid.bin"])
def test_a_run_saves_what_it_reached_and_goes_on(cli, folder, cut_at_pass, name):
    assert train(cli, "whole").code == 0
    kept = (folder / name).read_bytes()
    cut_at_pass(4, name)
    done = train(cli, "cut")
    assert done.code == 1
    assert done.err.endswith(SENTENCE.format(name))
    assert done.err.count("error:") == 1
    (saved,) = (folder / "cut/checkpoints").glob("checkpoint-*")
    assert f"saving at step {saved.name.split('-')[1]};" in done.err
    assert json.loads((folder / "cut/summary.json").read_text())["status"] == "failed"
    (folder / name).write_bytes(kept)
    assert train(cli, "cut", "training.resume=auto").code == 0
    assert differences(folder / "whole", folder / "cut") == []


def test_what_fails_before_the_first_step_saves_nothing(cli, folder, monkeypatch):
    monkeypatch.setattr(RunDirectory, "write_environment", lambda *_: os.truncate("train.bin", 6))
    done = train(cli, "run")
    assert (done.code, done.err.endswith(SENTENCE.format("train.bin"))) == (1, True)
    assert "saving" not in done.err
    assert list((folder / "run/checkpoints").iterdir()) == []


def test_other_commands_say_the_same(cli, folder, cut_at_pass):
    kept = (folder / "valid.bin").read_bytes()
    assert train(cli, "run").code == 0
    cut_at_pass(1, "valid.bin")
    done = cli("eval", "run", "--data", "valid.bin")
    assert (done.code, done.err.endswith(SENTENCE.format("valid.bin"))) == (1, True)
    (folder / "valid.bin").write_bytes(kept)
    cut_at_pass(3, "train.bin")
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    done = cli("lr-find", *sets, "--steps", "20")
    assert (done.code, done.err.endswith(SENTENCE.format("train.bin"))) == (1, True)
