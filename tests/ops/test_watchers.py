"""Watchers of ops: told around each, in order, and forgotten afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import ops
from tisslm.errors import DataError
from tisslm.ops.watchers import Watcher, watchers


class Noting(Watcher):
    def __init__(self, name: str, log: list) -> None:
        self.name, self.log = name, log

    def before(self, op, args):
        self.log.append((self.name, "before", op, float(args[0].sum())))

    def after(self, op, args):
        self.log.append((self.name, "after", op, float(args[0].sum())))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_watcher_sees_the_arrays_before_and_after_a_kernel_and_a_twin(dtype):
    log: list = []
    x = np.ones(4, dtype=dtype)
    with ops.watching(Noting("a", log)), ops.watching(Noting("b", log)):
        ops.fill(x, 2.0)
    ops.fill(x, 3.0)
    assert log == [
        ("a", "before", "fill", 4.0),
        ("b", "before", "fill", 4.0),
        ("a", "after", "fill", 8.0),
        ("b", "after", "fill", 8.0),
    ]
    assert watchers() == ()


def test_nobody_watches_after_an_error_and_a_refused_op_has_no_after():
    log: list = []
    logits = np.zeros((1, 3), np.float32)
    with pytest.raises(DataError, match="row 0 of the tile"), ops.watching(Noting("a", log)):
        ops.cross_entropy_tile(
            logits,
            np.array([7], np.int32),
            np.ones(1, np.float32),
            np.zeros(1, np.float32),
            0.0,
            True,
        )
    assert [entry[1] for entry in log] == ["before"]
    assert watchers() == ()


def test_arguments_that_are_given_by_name_reach_watchers_and_kernels_by_their_places():
    log: list = []
    x = np.ones(4, dtype=np.float32)
    with ops.watching(Noting("a", log)):
        ops.fill(value=2.0, x_P=x)
    assert [entry[3] for entry in log] == [4.0, 8.0]
