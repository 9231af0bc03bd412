"""A head's backward that many threads share has the bits of one thread's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tisslm import ops
from tisslm.models.window import fill_stops

pytestmark = pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the twins have no threads")

T, D = 64 * 5 + 9, 16  # more than four tiles, the last of them short


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = ops.thread_count().count
    yield
    ops.set_threads(before)


def gradient(threads: int, dtype: str, heads: tuple[int, int], p: float, seen: str) -> bytes:
    """Return dqkv of two rows, which was NaN before."""
    ops.set_threads(threads)
    ops.reserve_scratch(T, D, 64, dtype)
    rng, (H, K), B = np.random.default_rng(3), heads, 1

    def stored(*shape: int) -> np.ndarray:
        x = np.empty(shape, dtype)
        ops.store(x, rng.standard_normal(shape).astype(np.float32))
        return x

    qkv, dout, out = stored(B, T, (H + 2 * K) * D), stored(B, T, H * D), stored(B, T, H * D)
    start = stop = None
    if seen != "causal":
        start = np.repeat(np.array([[0, 70, 200]], np.int32), (70, 130, T - 200), axis=1)
    if seen == "both ways":
        stop = np.empty_like(start)
        fill_stops(stop, start)
    lse = np.empty((B, H, T), np.float32)
    dqkv = stored(*qkv.shape)
    ops.store(dqkv, np.full(qkv.shape, np.nan, np.float32))
    shared = ops.dkv_shape(B, T, H, K, D)
    dkv = None if shared is None else np.full(shared, np.nan, np.float32)
    rest: tuple[Any, ...] = (H, K, 0.25, p, 7, 1, 2, 0, start, stop)
    ops.attention_forward(qkv, out, lse, *rest)
    ops.attention_backward(dout, qkv, out, lse, dqkv, *rest, dkv)
    assert np.isfinite(ops.widen(dqkv)).all()
    return dqkv.tobytes()


@pytest.mark.parametrize("seen", ["causal", "documents", "both ways"])
@pytest.mark.parametrize("heads", [(2, 2), (2, 1)])
@pytest.mark.parametrize(("dtype", "p"), [("float32", 0.0), ("float32", 0.3), ("uint16", 0.0)])
def test_the_pieces_of_a_head_have_its_bits(dtype, p, heads, seen):
    whole = gradient(1, dtype, heads, p, seen)
    assert gradient(3, dtype, heads, p, seen) == whole  # in two steps, if scratch has room for both
    assert gradient(4, dtype, heads, p, seen) == whole  # cut in six
    assert gradient(11, dtype, heads, p, seen) == whole  # as many pieces as there are tiles


@pytest.mark.parametrize("seen", ["causal", "documents", "both ways"])
@pytest.mark.parametrize("heads", [(5, 5), (5, 1)])
@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_the_heads_of_the_last_turn_that_are_cut_have_the_bits(dtype, heads, seen):
    whole = gradient(1, dtype, heads, 0.0, seen)
    assert gradient(4, dtype, heads, 0.0, seen) == whole  # four, and one that is cut
    assert gradient(2, dtype, heads, 0.0, seen) == whole  # four in two turns, and one that is cut
    assert gradient(3, dtype, heads, 0.0, seen) == whole  # two are left for three: none is cut
