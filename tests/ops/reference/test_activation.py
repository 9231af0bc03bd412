"""The activations' twins: values known from their formulas, and the slope."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerances import FLOAT64_ROUNDING

from tisslm.ops.reference.activation import (
    GELU,
    GELU_TANH,
    RELU2,
    SILU,
    activation_backward,
    activation_forward,
    gated_backward,
    gated_forward,
    soft_cap_backward,
    soft_cap_forward,
)

NAMES = {GELU: "exact", GELU_TANH: "tanh", SILU: "silu", RELU2: "relu2"}
CODES = pytest.mark.parametrize("code", NAMES, ids=NAMES.values())
GATES = pytest.mark.parametrize("code", [GELU, GELU_TANH, SILU], ids=["exact", "tanh", "silu"])


def forward(x, code):
    y = np.full_like(x, np.nan)
    activation_forward(x, y, code)
    return y


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (0.0, 0.0),
        (1.0, 0.8413447460685429),  # Phi(1)
        (-1.0, -0.15865525393145707),
        (2.0, 2 * 0.9772498680518208),
        (-10.0, -10 * 7.619853024160527e-24),  # the tail keeps its digits
    ],
)
def test_exact_form_is_x_times_the_normal_integral(x, expected):
    assert forward(np.array([[x]]), GELU)[0, 0] == pytest.approx(expected, rel=1e-13, abs=0)


@pytest.mark.parametrize("x", [-3.0, -0.5, 0.0, 0.7, 4.0])
def test_tanh_form_is_the_published_formula(x):
    expected = 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    actual = forward(np.array([[x]]), GELU_TANH)[0, 0]
    assert actual == pytest.approx(expected, rel=FLOAT64_ROUNDING, abs=0)


def test_the_forms_differ_by_at_most_a_thousandth():
    x = np.linspace(-6, 6, 241)[None]
    difference = np.abs(forward(x, GELU) - forward(x, GELU_TANH)).max()
    assert 1e-5 < difference < 1e-3


@pytest.mark.parametrize("x", [-30.0, -1.0, 0.0, 0.7, 12.0])
def test_silu_is_x_times_the_logistic_function(x):
    actual = forward(np.array([[x]]), SILU)[0, 0]
    assert actual == pytest.approx(x / (1 + math.exp(-x)), rel=FLOAT64_ROUNDING, abs=0)


@pytest.mark.parametrize(("x", "expected"), [(-3.0, 0.0), (0.0, 0.0), (0.5, 0.25), (3.0, 9.0)])
def test_squared_relu_is_the_square_of_what_is_above_zero(x, expected):
    assert forward(np.array([[x]]), RELU2)[0, 0] == expected


@CODES
def test_backward_agrees_with_central_differences(check_gradient, draw, code):
    x, dy = draw(0, 6, 7, size=2.0), draw(1, 6, 7)
    assert x.min() < -3
    assert x.max() > 3
    dx, y = np.full_like(x, np.nan), np.full_like(x, np.nan)
    activation_backward(x, dy, dx, y, code)
    assert np.array_equal(y, forward(x, code))
    check_gradient(lambda: float((forward(x, code) * dy).sum()), x, dx)


@GATES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finite_inputs_stay_finite_up_to_the_largest(code, dtype):
    """The cube and the square of what is far out are infinite, and the slope's other factor 0."""
    x = np.array([[1e3, 1e19, 1e20, 1e38, np.finfo(dtype).max]], dtype)
    for sign, expected in ((1, x), (-1, 0 * x)):
        dx, y = np.full_like(x, np.nan), np.full_like(x, np.nan)
        activation_backward(sign * x, np.ones_like(x), dx, y, code)
        assert np.array_equal(y, expected)
        assert np.array_equal(dx, expected > 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squared_relu_is_infinite_where_the_square_is(dtype):
    largest = np.finfo(dtype).max
    x = np.array([[1e3, 0.4 * largest, -largest]], dtype)
    dx, y = np.full_like(x, np.nan), np.full_like(x, np.nan)
    activation_backward(x, np.ones_like(x), dx, y, RELU2)
    assert y.tolist() == [[1e6, np.inf, 0]]
    assert np.array_equal(dx, 2 * np.maximum(x, 0))


@CODES
def test_gradient_may_overwrite_its_input(draw, code):
    x, dy = draw(0, 4, 5), draw(1, 4, 5)
    expected = np.empty_like(x)
    activation_backward(x, dy, expected, None, code)
    activation_backward(x, dy, dy, None, code)
    assert np.array_equal(dy, expected)


def gated(pre, code):
    act = np.full((len(pre), pre.shape[1] // 2), np.nan)
    gated_forward(pre, act, code)
    return act


@CODES
def test_the_gate_is_the_first_half_and_passes_the_activation(draw, code):
    pre = draw(0, 5, 8, size=2.0)
    expected = forward(np.ascontiguousarray(pre[:, :4]), code) * pre[:, 4:]
    assert np.array_equal(gated(pre, code), expected)


@CODES
def test_gated_backward_agrees_with_central_differences(check_gradient, draw, code):
    pre, dact = draw(0, 6, 10, size=2.0), draw(1, 6, 5)
    dpre, act = np.full_like(pre, np.nan), np.full_like(dact, np.nan)
    gated_backward(pre, dact, dpre, act, code)
    assert np.array_equal(act, gated(pre, code))
    check_gradient(lambda: float((gated(pre, code) * dact).sum()), pre, dpre)


def test_gated_output_may_overwrite_its_gradient(draw):
    pre, dact = draw(0, 4, 6), draw(1, 4, 3)
    expected, dpre = np.full_like(pre, np.nan), np.full_like(pre, np.nan)
    gated_backward(pre, dact, expected, None, SILU)
    gated_backward(pre, dact, dpre, dact, SILU)
    assert np.array_equal(dpre, expected)
    assert np.array_equal(dact, gated(pre, SILU))


def test_a_soft_cap_leaves_small_logits_and_holds_large_ones():
    z = np.array([[-1e9, -0.01, 0.0, 0.01, 1e9]])
    soft_cap_forward(z, None, 30.0)
    assert z[0] == pytest.approx([-30, -0.01, 0, 0.01, 30], rel=1e-7)


def test_soft_cap_backward_agrees_with_central_differences(check_gradient, draw):
    z, dz = draw(0, 4, 6, size=3.0), draw(1, 4, 6)
    found, slope = dz.copy(), np.full_like(z, np.nan)

    def capped():
        y = z.copy()
        soft_cap_forward(y, slope, 2.0)
        return y

    capped()
    soft_cap_backward(found, slope)
    check_gradient(lambda: float((capped() * dz).sum()), z, found)
