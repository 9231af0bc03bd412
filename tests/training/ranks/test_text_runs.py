"""Runs of an encoder on several ranks whose weights come back as late as they can."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from embedding_runs import run_of
from thread_ranks import run_ranks

pytestmark = pytest.mark.usefixtures("late_weights")


def train(folder: Path, communicator: Any = "local") -> tuple[bytes, list[float]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = run_of(folder, communicator, threads=1)
        trainer.train()
    return trainer.model.parameters.data.tobytes(), list(trainer.loss_history)


@pytest.mark.parametrize("size", [2, 5])
def test_weights_that_come_late_are_waited_for(tmp_path: Path, size: int) -> None:
    (tmp_path / "ranks").mkdir()
    (tmp_path / "alone").mkdir()
    expected = train(tmp_path / "alone")
    assert run_ranks(size, partial(train, tmp_path / "ranks")) == [expected] * size
