"""Rounding to two bytes: to the nearest number of the type, ties to even."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import STORED_EPS

from tisslm.ops.reference.storage import store, widen


def there_and_back(values, dtype: str) -> np.ndarray:
    single = np.array(values, np.float32)
    out = np.empty(single.shape, dtype)
    store(out, single)
    return widen(out)


@given(st.floats(width=32))
def test_bfloat16_is_the_nearest(value):
    (back,) = there_and_back([value], "uint16")
    if not np.isfinite(value):
        assert np.array_equal([back], np.float32([value]), equal_nan=True)
    elif 1e-37 < abs(value) < 3e38:  # within the normal numbers: half a step of 2^-7
        assert abs(float(back) - value) <= STORED_EPS["uint16"] * abs(value)


@pytest.mark.parametrize(("dtype", "step"), [("uint16", 2.0**-7), ("float16", 2.0**-10)])
def test_halves_round_to_even(dtype, step):
    assert there_and_back([1 + step / 2, 1 + 3 * step / 2], dtype).tolist() == [1.0, 1 + 2 * step]


def test_what_is_too_large_for_float16_is_infinite():
    assert there_and_back([65519.0, 65520.0, -1e6], "float16").tolist() == [
        65504.0,
        np.inf,
        -np.inf,
    ]


def test_a_type_with_arithmetic_is_left_as_it_is():
    x = np.array([1.5, 2.5])
    assert widen(x) is x
