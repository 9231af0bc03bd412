"""Threads of kernels stamp when they begin and end, while somebody looks."""

from __future__ import annotations

from time import perf_counter_ns

import numpy as np
import pytest

from tisslm import ops
from tisslm.ops import runtime
from tisslm.tracking.profiling.regions import ROOM, Regions

pytestmark = pytest.mark.skipif(
    not ops.watch_regions(None), reason="twins, or a build without OpenMP: no threads to watch"
)


def product(rows: int = 400) -> np.ndarray:
    """Return a product that is large enough for every thread to get a share."""
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal((rows, 64), dtype=np.float32) for _ in range(2))
    y = np.empty((rows, rows), np.float32)
    ops.linear_forward(x, w, None, y)
    return y


def test_each_thread_stamps_its_share_within_the_call():
    ops.set_threads(3)
    values = np.ones(2**20, np.float32)
    with Regions(3) as regions:
        start = perf_counter_ns()
        ops.scale(values, 2.0)
        end = perf_counter_ns()
        shares = regions.shares(regions.take())
    assert [share.thread for share in shares] == [0, 1, 2]
    assert all(start <= share.start <= share.end <= end for share in shares)
    assert regions.take() == b""


def test_a_kernel_with_two_loops_has_shares_of_both():
    tokens, dh = np.zeros((4, 40), np.int32), np.ones((160, 16), np.float32)
    tables = np.zeros((50, 16), np.float32), np.zeros((40, 16), np.float32)
    scratch = np.zeros(160, np.int32), np.zeros(51, np.int32)
    with Regions(2) as regions:
        ops.embedding_backward(tokens, dh, *tables, *scratch, False, False, None)
        shares = regions.shares(regions.take())
    assert [share.thread for share in shares] == [0, 1, 0, 1]
    assert shares[0].end <= shares[2].start


def test_nothing_is_stamped_before_and_after():
    regions = Regions(2)
    ops.fill(np.zeros(9, np.float32), 1.0)
    assert regions.take() == b""
    with regions:
        pass
    ops.fill(np.zeros(9, np.float32), 1.0)
    assert regions.take() == b""


def test_loops_beyond_the_room_are_left_out():
    with Regions(1) as regions:
        ops.set_threads(1)
        for _ in range(ROOM + 10):
            ops.fill(np.zeros(9, np.float32), 1.0)
        assert len(regions.shares(regions.take())) == ROOM
        ops.fill(np.zeros(9, np.float32), 1.0)
        assert len(regions.shares(regions.take())) == 1


def test_threads_beyond_the_table_are_left_out():
    ops.set_threads(3)
    with Regions(2) as regions:
        ops.scale(np.ones(2**20, np.float32), 2.0)
        assert [share.thread for share in regions.shares(regions.take())] == [0, 1]


def test_stamps_change_no_bit():
    plain = product()
    with Regions(2):
        watched = product()
    assert np.array_equal(plain, watched)


def test_twins_have_no_threads_to_watch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime, "REFERENCE_ONLY", True)
    assert ops.watch_regions(np.zeros(3, np.int64)) is False
