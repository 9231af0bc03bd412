"""The compiled activations against their twins, element by element."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, ndtr
from tolerances import ACTIVATION, ACTIVATION_SLOPE, ACTIVATION_TAIL, EPS32

from tisslm.ops.reference.activation import GELU, GELU_TANH, RELU2, SILU

NAMES = {GELU: "exact", GELU_TANH: "tanh", SILU: "silu", RELU2: "relu2"}
CODES = pytest.mark.parametrize("code", NAMES, ids=NAMES.values())
#: Those with a gate that is a step from 0 to 1.
GATES = pytest.mark.parametrize("code", [GELU, GELU_TANH, SILU], ids=["exact", "tanh", "silu"])
GELUS = pytest.mark.parametrize("code", [GELU, GELU_TANH], ids=["exact", "tanh"])
SHAPES = [(1, 1), (1, 15), (3, 16), (13, 17), (64, 33), (65, 100), (129, 384)]


def points(shape):
    """Numbers over the whole range where activations bend, and far beyond on both sides."""
    count = shape[0] * shape[1]
    bend = np.linspace(-9, 9, count)
    bend[::13] *= 12
    return np.random.default_rng(0).permutation(bend).astype(np.float32).reshape(shape)


@CODES
@pytest.mark.parametrize("shape", SHAPES)
def test_forward(run_both, unwritten, shape, code):
    arguments = {"x_NF": points(shape), "y_NF": unwritten(*shape), "activation": code}
    both = run_both("activation", "activation_forward", arguments, {"y_NF"})
    assert_values(both, arguments["x_NF"])


def assert_values(both, x_NF):
    """Relative to x, or to the value where it is larger, as a square may be."""
    difference = np.abs(both.actual["y_NF"] - both.expected["y_NF"])
    size = np.maximum(np.abs(x_NF), np.abs(both.expected["y_NF"]))
    assert (difference <= ACTIVATION * size).all()


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
    size = np.maximum(np.abs(arguments["dy_NF"]), np.abs(both.expected["dx_NF"]))
    assert (difference <= ACTIVATION_SLOPE * size).all()
    if again:
        assert_values(both, arguments["x_NF"])


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


@GATES
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


def values_and_slopes(run_kernel, x, code):
    """What the kernel makes of a row, and of dy = 1."""
    x_NF = np.asarray(x, np.float32).reshape(1, -1)
    arguments = {
        "x_NF": x_NF,
        "dy_NF": np.ones_like(x_NF),
        "dx_NF": np.full_like(x_NF, np.nan),
        "y_NF": np.full_like(x_NF, np.nan),
        "activation": code,
    }
    after, _ = run_kernel("activation", "activation_backward", arguments, {"dx_NF", "y_NF"})
    return after["y_NF"][0].astype(np.float64), after["dx_NF"][0].astype(np.float64)


def gate_and_slope(x, code):
    """In float64, and with all digits of both tails, which the twin's tanh form has not."""
    if code == SILU:
        return expit(x), expit(x) * (1 + x * expit(-x))
    if code == GELU:
        return ndtr(x), ndtr(x) + x * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    twice_u = 2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    du = 2 * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x * x)
    gate = expit(twice_u)
    return gate, gate + x * gate * expit(-twice_u) * du


def all_exponents():
    """Every exponent of a float32 up to 2^20, denormals too, with 300 fractions and both signs."""
    exponents = np.repeat(np.arange(-150, 20), 300)
    fractions = np.random.default_rng(1).uniform(1, 2, exponents.size)
    size = (np.ldexp(1.0, exponents) * fractions).astype(np.float32)
    return np.concatenate([size, -size])


@GATES
@pytest.mark.parametrize(
    "x",
    [all_exponents(), np.linspace(-8.5, 8.5, 200_001).astype(np.float32)],
    ids=["exponents", "dense"],
)
def test_value_and_slope_are_accurate(run_kernel, x, code):
    value, slope = values_and_slopes(run_kernel, x, code)
    wide = x.astype(np.float64)
    gate, expected_slope = gate_and_slope(np.clip(wide, -80, 80), code)
    # relative to the value itself down to a tenth of x; left of that see the test below
    bound = ACTIVATION * np.abs(wide) * gate.clip(0.1) + 2.0**-150  # half of the least number
    assert (np.abs(value - wide * gate) <= bound).all()
    assert (np.abs(slope - expected_slope) <= ACTIVATION_SLOPE).all()


@GATES
def test_left_tail_keeps_its_relative_accuracy(run_kernel, code):
    x = np.linspace(-8, -2, 200_001).astype(np.float32)[1:]
    value, slope = values_and_slopes(run_kernel, x, code)
    wide = x.astype(np.float64)
    gate, expected_slope = gate_and_slope(wide, code)
    assert np.abs(value / (wide * gate) - 1).max() <= ACTIVATION_TAIL
    assert np.abs(slope / expected_slope - 1).max() <= ACTIVATION_TAIL


@GELUS
def test_ends_of_the_range_join(run_kernel, code):
    near = np.float32(8)
    x = np.array([np.nextafter(near, np.float32(0)), near, np.nextafter(near, np.float32(9))])
    value, slope = values_and_slopes(run_kernel, np.concatenate([x, -x]), code)
    assert np.abs(value[:3] - x).max() <= ACTIVATION * 8
    assert np.abs(slope[:3] - 1).max() <= ACTIVATION_SLOPE
    assert np.abs(value[3:]).max() <= 1e-14
    assert np.abs(slope[3:]).max() <= 1e-13


@GATES
def test_zeros_keep_their_sign_and_have_half_a_slope(run_kernel, code):
    value, slope = values_and_slopes(run_kernel, [0.0, -0.0, 1e-45, -1e-45], code)
    assert value[:2].tolist() == [0, 0]
    assert np.signbit(value[:2]).tolist() == [False, True]
    assert np.abs(slope - 0.5).max() <= 4 * EPS32


@GATES
def test_what_is_not_finite_shows(run_kernel, code):
    value, slope = values_and_slopes(run_kernel, [np.inf, -np.inf, np.nan, -np.nan], code)
    assert value[0] == np.inf
    assert not np.isfinite(value).any()
    assert np.isnan(value[2:]).all()
    assert not np.isfinite(slope).any()


@GATES
def test_finite_inputs_stay_finite_up_to_the_largest(run_kernel, code):
    begin = 88 if code == SILU else 16  # where the gate is a step in float32
    x = np.geomspace(begin, np.finfo(np.float32).max, 2000).astype(np.float32)
    assert np.isfinite(x).all()
    value, slope = values_and_slopes(run_kernel, np.concatenate([x, -x]), code)
    assert value.tolist() == [*x.tolist(), *[0] * x.size]
    assert slope.tolist() == [*[1] * x.size, *[0] * x.size]


def test_silu_keeps_its_digits_to_where_the_exponential_ends(run_kernel):
    x = np.linspace(-87, -8, 100_001).astype(np.float32)
    value, slope = values_and_slopes(run_kernel, x, SILU)
    gate, expected_slope = gate_and_slope(x.astype(np.float64), SILU)
    assert np.abs(value / (x * gate) - 1).max() <= ACTIVATION
    assert np.abs(slope / expected_slope - 1).max() <= ACTIVATION


def test_squared_relu_is_a_square_and_its_slope_twice_the_root(run_kernel):
    x = np.concatenate([all_exponents(), [np.inf, -np.inf, np.nan, 0.0, -0.0]]).astype(np.float32)
    value, slope = values_and_slopes(run_kernel, x, RELU2)
    positive = np.maximum(x, np.float32(0))
    with np.errstate(over="ignore"):
        assert np.array_equal(value.astype(np.float32), positive * positive, equal_nan=True)
    assert np.array_equal(slope, 2.0 * positive, equal_nan=True)


def test_squared_relu_of_a_large_number_has_a_finite_slope(run_kernel):
    x = [1e19, 1.6e38, -np.finfo(np.float32).max]
    value, slope = values_and_slopes(run_kernel, x, RELU2)
    assert value.tolist()[1:] == [np.inf, 0]
    assert np.allclose(slope, [2e19, 3.2e38, 0], rtol=EPS32)
