"""The number of threads is put back after a test that sets it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tisslm import ops


@pytest.fixture
def threads() -> Iterator[Callable[[int], object]]:
    """Set the number of threads; what was chosen before comes back."""
    before = ops.thread_count().count
    yield ops.set_threads
    ops.set_threads(before)
