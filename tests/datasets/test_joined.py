"""Arrays that are read in spans: the same elements as one array in memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.datasets.joined import BitArray, JoinedArray, SpanArray
from tisslm.errors import ShapeError

SPANS = st.tuples(st.integers(-5, 45), st.integers(-5, 45))


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), span=SPANS, inner=SPANS)
def test_a_joined_array_is_its_parts_one_after_another(sizes, span, inner):
    whole = np.arange(sum(sizes), dtype=np.uint16)
    joined = JoinedArray(np.split(whole, np.cumsum(sizes)[:-1]))
    assert (len(joined), joined.shape, joined.nbytes) == (len(whole), whole.shape, whole.nbytes)
    assert np.array_equal(joined[slice(*span)], whole[slice(*span)])
    part = joined.span(*span)
    assert np.array_equal(part[slice(*inner)], whole[slice(*span)][slice(*inner)])


@given(bits=st.lists(st.booleans(), max_size=40), span=SPANS, inner=SPANS)
def test_bits_are_booleans(bits, span, inner):
    whole = np.array(bits, bool)
    packed = BitArray(np.packbits(whole, bitorder="little"), 0, len(whole))
    assert np.array_equal(packed[slice(*span)], whole[slice(*span)])
    part = packed.span(*span)
    assert np.array_equal(part[slice(*inner)], whole[slice(*span)][slice(*inner)])
    assert part[:].dtype == bool


def test_a_span_within_one_part_is_a_view():
    part = np.arange(5)
    assert np.shares_memory(JoinedArray([part, part])[1:4], part)


def test_only_spans_are_read():
    joined = JoinedArray([np.arange(5)])
    assert isinstance(joined, SpanArray)
    with pytest.raises(ShapeError, match="expected a slice of an array in files, got 3; read"):
        joined[3]
    with pytest.raises(ShapeError, match="expected a slice of step 1, got 2"):
        joined[::2]
    with pytest.raises(ShapeError, match="expected flat arrays of one type to join"):
        JoinedArray([np.arange(5), np.arange(5.0)])
    with pytest.raises(ShapeError, match=r"expected bits of range\(8\), got 0 to 9"):
        BitArray(np.zeros(1, np.uint8), 0, 9)
