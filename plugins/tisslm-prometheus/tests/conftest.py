"""What the tests share: descriptions of runs, and that nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tisslm.contracts import RunInfo

Describe = Callable[..., RunInfo]


@pytest.fixture
def run(tmp_path: Path) -> Describe:
    """``run(resumed_step=4)``: a run whose directory is the test's."""
    config = {"training": {"seed": 1, "learning_rate": 1e-3}, "log": {"sinks": ["prometheus"]}}

    def describe(directory: Path = tmp_path, *, resumed_step: int = 0) -> RunInfo:
        return RunInfo(
            directory,
            "größe",
            config=config,
            resumed_step=resumed_step,
            max_steps=9,
            parameters=1234,
        )

    return describe


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Compare the threads before and after each test."""
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(60)  # one that has answered a scrape ends a moment after its client
    assert not [thread for thread in left if thread.is_alive()]
