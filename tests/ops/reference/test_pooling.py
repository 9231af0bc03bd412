"""Pooling's twins: what one row of a text is, its gradient, and texts that are none."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import ops
from tisslm.errors import ShapeError
from tisslm.ops.reference.pooling import LAST, MAX, MEAN, pool_backward, pool_forward

KINDS = [MEAN, LAST, MAX]
N, C = 11, 3
#: Rows before, between and behind the texts belong to none; one text has a single row.
FIRST, STOP = np.array([1, 4, 5]), np.array([4, 5, 9])


def forward(hidden, kind, first=FIRST, stop=STOP):
    out, places = np.full((len(first), C), np.nan), np.full((len(first), C), -7, np.int32)
    assert pool_forward(hidden, first, stop, out, kind, places) == 0
    return out, places


@pytest.mark.parametrize("kind", KINDS)
def test_forward_is_what_numpy_says_of_each_text(draw, kind):
    hidden = draw(0, N, C)
    out, places = forward(hidden, kind)
    for p, (first, stop) in enumerate(zip(FIRST, STOP, strict=True)):
        rows = hidden[first:stop]
        expected = {MEAN: rows.mean(axis=0), LAST: rows[-1], MAX: rows.max(axis=0)}[kind]
        assert np.allclose(out[p], expected, rtol=1e-15)
    if kind == MAX:
        assert np.array_equal(np.take_along_axis(hidden, FIRST[:, None] + places, axis=0), out)
    else:
        assert (places == -7).all()


def test_of_equal_values_the_first_is_named():
    hidden = np.zeros((N, C))
    hidden[6, 1] = hidden[8, 1] = 1.0
    assert np.array_equal(forward(hidden, MAX)[1][2], [0, 1, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_backward_agrees_with_central_differences(check_gradient, draw, kind):
    hidden, d = draw(0, N, C), draw(1, 3, C)
    dh = np.full((N, C), np.nan)
    assert pool_backward(d, FIRST, STOP, dh, kind, forward(hidden, kind)[1]) == 0
    check_gradient(lambda: float((forward(hidden, kind)[0] * d).sum()), hidden, dh)
    assert not dh[[0, 9, 10]].any(), "rows of no text"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("first", "stop", "words"),
    [
        ([1, 4], [4, 4], "text 1: expected at least one row, got an empty range"),
        ([1, 4], [0, 5], "text 0: expected at least one row, got an empty range"),
        ([-1, 4], [4, 5], "text 0: expected rows of the batch, got some that it does not have"),
        ([1, 4], [4, N + 1], "text 1: expected rows of the batch, got some that it does not have"),
        ([1, 3], [4, 5], "text 1: expected it to begin where the text before it ends, or later"),
        ([4, 1], [5, 4], "text 1: expected it to begin where the text before it ends, or later"),
        ([1, 4], [2**40, 5], "text 0: expected rows of the batch"),
    ],
)
def test_what_is_no_text_is_refused_and_nothing_written(dtype, first, stop, words):
    first, stop = np.array(first), np.array(stop)
    hidden, out, dh = np.ones((N, C), dtype), np.zeros((2, C), dtype), np.zeros((N, C), dtype)
    for refused in (
        lambda: ops.pool_forward(hidden, first, stop, out, MEAN, None),
        lambda: ops.pool_backward(out + 1, first, stop, dh, MEAN, None),
    ):
        with pytest.raises(ShapeError) as caught:
            refused()
        assert str(caught.value).startswith(f"pooling: {words}")
    assert not out.any()
    assert not dh.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_maximum_without_places_is_refused(dtype):
    d, dh = np.ones((3, C), dtype), np.zeros((N, C), dtype)
    with pytest.raises(ShapeError) as caught:
        ops.pool_backward(d, FIRST, STOP, dh, MAX, None)
    assert str(caught.value) == (
        "pool_backward: argmax_PC: expected the places of the largest values, got None. Hand over "
        "the array that pool_forward has filled"
    )


def test_kinds_have_the_names_of_the_configuration():
    assert ops.POOLINGS == {"mean": MEAN, "last": LAST, "max": MAX}
