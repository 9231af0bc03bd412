"""The examples run; the custom loop has the bits of ``trainer.train()``."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tisslm import ops

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TEXT = "".join(f"{i} green bottles hang on the wall, and {i} of them fall.\n" for i in range(60))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    ops.set_threads(1)
    yield
    ops.set_threads(None)


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a text of 46 windows, which batches of 16 do not divide."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "text.txt"
    path.write_text(TEXT[: 46 * 64 + 10], encoding="utf-8")
    return path


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_as_a_script(path: Path, text: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TISSLM_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, str(path), str(text), "--steps", "4"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=text.parent,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert list(text.parent.glob("runs/*/checkpoints/checkpoint-4/model.safetensors"))


def test_basic_training_learns(text: Path) -> None:
    trainer = load("basic_training").run(text, 12)
    assert trainer.loss_history[-1] < trainer.loss_history[0] - 0.5


def test_a_resumed_run_has_the_bits_of_the_whole_one(text: Path) -> None:
    whole, resumed = load("resume_training").run(text, 6)
    assert resumed.current_step == 6
    assert resumed.loss_history == whole.loss_history
    assert np.array_equal(resumed.model.parameters.data, whole.model.parameters.data)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_the_custom_loop_has_the_bits_of_train(text: Path, dropout: float) -> None:
    """Over two epochs and a half, the last batch of each smaller than the others."""
    example = load("custom_loop")
    steps = 8
    by_hand, dataset = example.build(text, steps, dropout)
    example.loop(by_hand, dataset, steps)
    by_trainer, _ = example.build(text, steps, dropout)
    by_trainer.train()
    assert -(-len(dataset) // 16) == 3
    assert by_hand.current_step == by_trainer.current_step == steps
    assert np.array_equal(by_hand.model.parameters.data, by_trainer.model.parameters.data)
    for name, array in by_trainer.optimizer.state().items():
        assert np.array_equal(by_hand.optimizer.state()[name], array)
    assert by_hand.optimizer.get_lr() == by_trainer.optimizer.get_lr()


def test_dropout_matters_to_the_comparison(text: Path) -> None:
    """Otherwise the test above would prove nothing about it."""
    example = load("custom_loop")
    found = []
    for dropout in (0.0, 0.2):
        trainer, dataset = example.build(text, 2, dropout)
        example.loop(trainer, dataset, 2)
        found.append(trainer.model.parameters.data.copy())
    assert not np.array_equal(*found)
