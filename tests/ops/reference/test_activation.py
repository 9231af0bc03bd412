"""GELU's twin: values known from the normal distribution, and the slope."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerances import FLOAT64_ROUNDING

from tisslm.ops.reference.activation import (
    GELU,
    GELU_TANH,
    activation_backward,
    activation_forward,
)

CODES = pytest.mark.parametrize("code", [GELU, GELU_TANH], ids=["exact", "tanh"])


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


@CODES
def test_backward_agrees_with_central_differences(check_gradient, draw, code):
    x, dy = draw(0, 6, 7, size=2.0), draw(1, 6, 7)
    assert x.min() < -3
    assert x.max() > 3
    dx, y = np.full_like(x, np.nan), np.full_like(x, np.nan)
    activation_backward(x, dy, dx, y, code)
    assert np.array_equal(y, forward(x, code))
    check_gradient(lambda: float((forward(x, code) * dy).sum()), x, dx)


@CODES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finite_inputs_stay_finite_up_to_the_largest(code, dtype):
    """The cube and the square of what is far out are infinite, and the slope's other factor 0."""
    x = np.array([[1e3, 1e19, 1e20, 1e38, np.finfo(dtype).max]], dtype)
    for sign, expected in ((1, x), (-1, 0 * x)):
        dx, y = np.full_like(x, np.nan), np.full_like(x, np.nan)
        activation_backward(sign * x, np.ones_like(x), dx, y, code)
        assert np.array_equal(y, expected)
        assert np.array_equal(dx, expected > 0)


@CODES
def test_gradient_may_overwrite_its_input(draw, code):
    x, dy = draw(0, 4, 5), draw(1, 4, 5)
    expected = np.empty_like(x)
    activation_backward(x, dy, expected, None, code)
    activation_backward(x, dy, dy, None, code)
    assert np.array_equal(dy, expected)
