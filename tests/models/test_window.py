"""Sliding windows as starts: what is seen, without allocating, and what is refused."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from packing import starts_of, stops_of

from tisslm.errors import ConfigError, ShapeError
from tisslm.models.window import fill_stops, fill_window, twice_keys_seen


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("window", [1, 2, 7, 29, 30, 31, 2**31, 2**40])
@pytest.mark.parametrize(("B", "T"), [(1, 1), (3, 30)])
def test_a_query_sees_the_keys_of_its_window_and_document(B, T, window, documents):
    start = starts_of(T, B, T) if documents else None
    see = np.full((B, T), -1, np.int32)
    fill_window(see, start, window)
    first = np.zeros((B, T), int) if start is None else start
    for b in range(B):
        for t in range(T):
            seen = [s for s in range(t + 1) if s >= first[b, t] and t - s < window]
            assert see[b, t] == seen[0]
    assert (np.diff(see, axis=1) >= 0).all()


@pytest.mark.parametrize("documents", [False, True])
def test_nothing_is_allocated(documents):
    see = np.zeros((4, 4096), np.int32)
    start = starts_of(0, *see.shape) if documents else None
    fill_window(see, start, 100)
    tracemalloc.start()
    try:
        fill_window(see, start, 100)
        assert tracemalloc.get_traced_memory()[1] < 2048  # views, and no array of a row's size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("window", [0, -3])
def test_a_window_without_a_key_is_refused(window):
    with pytest.raises(ConfigError) as refused:
        fill_window(np.zeros((1, 4), np.int32), None, window)
    assert str(refused.value) == (
        f"sliding window: expected at least 1 key, the token itself, got {window}. Take a larger "
        "one, or none"
    )


def test_starts_of_another_batch_are_refused():
    with pytest.raises(ShapeError) as refused:
        fill_window(np.zeros((2, 4), np.int32), np.zeros((2, 5), np.int32), 3)
    assert str(refused.value) == (
        "sliding window: expected starts of shape (2, 4), got (2, 5). Give the starts of the same "
        "batch"
    )


@pytest.mark.parametrize(("B", "T"), [(1, 1), (1, 2), (4, 30)])
def test_stops_are_where_documents_end(B, T):
    for seed in range(5):
        start, stop = starts_of(seed, B, T), np.full((B, T), -1, np.int32)
        fill_stops(stop, start)
        for b in range(B):
            for t in range(T):
                same = [s for s in range(T) if start[b, s] == start[b, t]]
                assert stop[b, t] == same[-1] + 1
        assert np.array_equal(stop, stops_of(start))
        fill_stops(stop, None)
        assert (stop == T).all()


def test_keys_seen_both_ways_are_all():
    assert twice_keys_seen(10) == 10
    assert twice_keys_seen(10, causal=False) == 20
