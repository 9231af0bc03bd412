"""The compiled soft cap against its twin."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import ACTIVATION, FEW_ROUNDINGS

SHAPES = [(1, 1), (1, 15), (3, 16), (13, 17), (65, 100), (33, 384)]
CAPS = [0.5, 15.0, 30.0]


def points(shape, cap):
    """Numbers from far within the cap to far beyond it, of both signs."""
    size = np.geomspace(1e-30, 1e4, shape[0] * shape[1]).astype(np.float32) * np.float32(cap)
    size[::2] *= -1
    return np.random.default_rng(0).permutation(size).reshape(shape)


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_forward(run_both, unwritten, shape, kept, cap):
    slope = unwritten(*shape) if kept else None
    arguments = {"z_NV": points(shape, cap), "slope_NV": slope, "cap": cap}
    both = run_both("activation", "soft_cap_forward", arguments, {"z_NV", "slope_NV"})
    # relative to the value itself, also where it is small
    expected = both.expected["z_NV"]
    assert (np.abs(both.actual["z_NV"] - expected) <= ACTIVATION * np.abs(expected)).all()
    if kept:
        assert np.abs(both.actual["slope_NV"] - both.expected["slope_NV"]).max() <= ACTIVATION


def test_a_dense_row_is_accurate_also_where_the_formulas_meet(run_both, unwritten):
    z = np.linspace(-12, 12, 200_001, dtype=np.float32)[None]
    arguments = {"z_NV": z, "slope_NV": unwritten(*z.shape), "cap": 1.0}
    both = run_both("activation", "soft_cap_forward", arguments, {"z_NV", "slope_NV"})
    assert (np.abs(both.actual["z_NV"] - np.tanh(z.astype("f8"))) <= ACTIVATION * np.abs(z)).all()
    slope = np.cosh(z.astype("f8")) ** -2
    # the exponent, up to 24, is rounded
    assert np.abs(both.actual["slope_NV"] / slope - 1).max() <= 32 * FEW_ROUNDINGS


@pytest.mark.parametrize("shape", SHAPES)
def test_backward(run_both, normal, shape):
    arguments = {"dz_NV": normal(0, *shape), "slope_NV": normal(1, *shape)}
    both = run_both("activation", "soft_cap_backward", arguments, {"dz_NV"})
    expected = both.expected["dz_NV"]
    assert (np.abs(both.actual["dz_NV"] - expected) <= FEW_ROUNDINGS * np.abs(expected)).all()


def test_what_is_far_is_the_cap_with_a_slope_of_zero_and_nan_stays_nan(run_kernel, unwritten):
    largest = np.finfo(np.float32).max
    z = np.array([[1e4, -1e4, largest, -largest, np.inf, -np.inf, np.nan, 0.0]], np.float32)
    arguments = {"z_NV": z, "slope_NV": unwritten(*z.shape), "cap": 30.0}
    after, _ = run_kernel("activation", "soft_cap_forward", arguments, {"z_NV", "slope_NV"})
    assert after["z_NV"][0].tolist()[:6] == [30, -30, 30, -30, 30, -30]
    assert after["slope_NV"][0].tolist()[:6] == [0] * 6
    assert np.isnan([after["z_NV"][0, 6], after["slope_NV"][0, 6]]).all()
    assert after["z_NV"][0, 7] == 0
    assert after["slope_NV"][0, 7] == 1


def test_the_slope_changes_no_bit_of_the_logits(run_kernel, unwritten):
    z = points((7, 33), 30.0)
    found = []
    for slope in (None, unwritten(7, 33)):
        arguments = {"z_NV": z, "slope_NV": slope, "cap": 30.0}
        after, _ = run_kernel("activation", "soft_cap_forward", arguments, {"z_NV", "slope_NV"})
        found.append(after["z_NV"].tobytes())
    assert found[0] == found[1]
