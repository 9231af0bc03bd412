"""The compiled summary of an array against its twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerances import FLOAT64_ROUNDING

SIZES = [1, 7, 8, 15, 16, 17, 16383, 16384, 16385, 50001]


def arguments_of(x, low=-0.5, high=1.25):
    partial = np.full((-(-len(x) // 16384), 5), np.nan)
    return {"x_P": x, "low": low, "high": high, "partial_K5": partial}


@pytest.mark.parametrize("size", SIZES)
def test_the_kernel_is_its_twin(run_both, normal, size):
    x = normal(0, size)
    x[::3] = 0.0
    x[1::7] = np.float32(1.25)  # on the edge, and so not outside
    both = run_both("summary", "summarize", arguments_of(x), {"partial_K5"})
    actual, expected = both.actual["partial_K5"], both.expected["partial_K5"]
    assert np.array_equal(actual[:, 2:], expected[:, 2:])
    size = np.abs(x.astype(np.float64)).sum() + 1.0
    assert np.abs(actual[:, :2] - expected[:, :2]).max() < FLOAT64_ROUNDING * size


@pytest.mark.parametrize("place", [0, 3, 16, 40, 44])
def test_what_is_not_finite_is_told_wherever_it_is(run_kernel, normal, place):
    x = normal(0, 45)
    x[place] = math.nan
    found = run_kernel("summary", "summarize", arguments_of(x), {"partial_K5"})[0]["partial_K5"][0]
    assert np.isnan(found[:3]).all()
    x[place] = -math.inf
    found = run_kernel("summary", "summarize", arguments_of(x), {"partial_K5"})[0]["partial_K5"][0]
    assert found[2] == math.inf
    assert found[4] == np.count_nonzero((x < -0.5) | (x > 1.25))
