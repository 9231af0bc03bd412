"""The compiled activations against their twins, element by element."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import ACTIVATION, ACTIVATION_SLOPE

from tisslm._reference.activation import GELU, GELU_TANH

CODES = pytest.mark.parametrize("code", [GELU, GELU_TANH], ids=["exact", "tanh"])
SHAPES = [(1, 1), (1, 15), (3, 16), (13, 17), (64, 33), (65, 100), (129, 384)]


def points(shape):
    """Numbers over the whole range where GELU bends, and far beyond on both sides."""
    count = shape[0] * shape[1]
    bend = np.linspace(-9, 9, count)
    bend[::13] *= 12
    return np.random.default_rng(0).permutation(bend).astype(np.float32).reshape(shape)


@CODES
@pytest.mark.parametrize("shape", SHAPES)
def test_forward(run_both, unwritten, shape, code):
    arguments = {"x_NF": points(shape), "y_NF": unwritten(*shape), "activation": code}
    both = run_both("activation", "activation_forward", arguments, {"y_NF"})
    difference = np.abs(both.actual["y_NF"] - both.expected["y_NF"])
    assert (difference <= ACTIVATION * np.abs(arguments["x_NF"])).all()


@CODES
@pytest.mark.parametrize("again", [False, True], ids=["dx only", "y again"])
@pytest.mark.parametrize("shape", SHAPES)
def test_backward(run_both, normal, unwritten, shape, code, again):
    arguments = {
        "x_NF": points(shape),
        "dy_NF": normal(1, *shape),
        "dx_NF": unwritten(*shape),
        "y_NF": unwritten(*shape) if again else None,
        "activation": code,
    }
    both = run_both("activation", "activation_backward", arguments, {"dx_NF", "y_NF"})
    difference = np.abs(both.actual["dx_NF"] - both.expected["dx_NF"])
    assert (difference <= ACTIVATION_SLOPE * np.abs(arguments["dy_NF"])).all()
    if again:
        difference = np.abs(both.actual["y_NF"] - both.expected["y_NF"])
        assert (difference <= ACTIVATION * np.abs(arguments["x_NF"])).all()


@CODES
def test_backward_repeats_the_bits_of_forward(run_kernel, normal, unwritten, code):
    shape = (13, 33)
    arguments = {"x_NF": points(shape), "y_NF": unwritten(*shape), "activation": code}
    first, _ = run_kernel("activation", "activation_forward", arguments, {"y_NF"})
    arguments = {
        "x_NF": points(shape),
        "dy_NF": normal(1, *shape),
        "dx_NF": unwritten(*shape),
        "y_NF": unwritten(*shape),
        "activation": code,
    }
    second, _ = run_kernel("activation", "activation_backward", arguments, {"dx_NF", "y_NF"})
    assert second["y_NF"].tobytes() == first["y_NF"].tobytes()


@CODES
def test_gradient_may_overwrite_its_input(run_kernel, normal, unwritten, code):
    shape = (13, 33)
    dy = normal(1, *shape)
    results = []
    for dx in (unwritten(*shape), dy):
        arguments = {
            "x_NF": points(shape),
            "dy_NF": dy,
            "dx_NF": dx,
            "y_NF": None,
            "activation": code,
        }
        after, _ = run_kernel("activation", "activation_backward", arguments, {"dx_NF"})
        results.append(after["dx_NF"].tobytes())
    assert results[0] == results[1]


@CODES
def test_far_inputs_stay_finite_and_nan_stays_nan(run_kernel, unwritten, code):
    x = np.tile(np.array([-1e6, -100, -0.0, 0.0, 100, 1e6, np.nan], np.float32), (3, 5))
    arguments = {"x_NF": x, "y_NF": unwritten(*x.shape), "activation": code}
    after, _ = run_kernel("activation", "activation_forward", arguments, {"y_NF"})
    far = np.isfinite(x)
    assert np.isnan(after["y_NF"][~far]).all()
    # a gate that underflows may stop at the smallest number instead of zero
    assert np.allclose(after["y_NF"][far], np.maximum(x[far], 0), rtol=ACTIVATION, atol=1e-30)
    arguments = {
        "x_NF": x,
        "dy_NF": np.full_like(x, 2),
        "dx_NF": unwritten(*x.shape),
        "y_NF": None,
        "activation": code,
    }
    after, _ = run_kernel("activation", "activation_backward", arguments, {"dx_NF"})
    assert np.isnan(after["dx_NF"][~far]).all()
    slope = np.sign(x[far]) + 1
    assert np.allclose(after["dx_NF"][far], slope, rtol=ACTIVATION_SLOPE, atol=1e-20)
