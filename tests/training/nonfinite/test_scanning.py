"""The first element that is not finite, in arrays of every storage type."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.memory.finite import BLOCK, find_non_finite
from tisslm.ops.reference.storage import store


@given(
    st.sampled_from(["float32", "float64", "float16", "uint16"]),
    st.lists(st.integers(0, 34), max_size=4),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
def test_the_first_in_the_order_of_memory_is_found_with_its_index(dtype, places, value):
    values = np.linspace(-3e38 if dtype != "float16" else -6e4, 1.0, 35, dtype=np.float32)
    values[places] = value
    array = np.zeros((5, 7), dtype)
    store(array, values.reshape(5, 7))
    spot = find_non_finite(array)
    if not places:
        assert spot is None
        return
    assert spot.index == divmod(min(places), 7)
    assert (spot.count, spot.size) == (len(set(places)), 35)
    assert repr(spot.value) == repr(value)


@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 3])
def test_large_arrays_are_looked_at_in_blocks(place):
    array = np.zeros(2 * BLOCK + 4, np.float32)
    array[[place, -1]] = np.inf
    spot = find_non_finite(array)
    assert (spot.index, spot.count) == ((place,), 1 if place == 2 * BLOCK + 3 else 2)


def test_integers_and_nothing_are_finite():
    assert find_non_finite(np.full(3, -1, np.int32)) is None
    assert find_non_finite(np.empty((0, 3), np.float32)) is None


def test_a_view_with_strides_is_read_as_it_is_seen():
    array = np.zeros((4, 6), np.float32)
    array[2, 3] = np.nan
    assert find_non_finite(array[:, 1::2]).index == (2, 1)
