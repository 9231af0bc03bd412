"""The linear map's twin: its formula, and its gradients against central differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import FLOAT64_ROUNDING, largest_error

from tisslm.ops.reference import activation, linear

SIZES = st.integers(1, 5)


def forward(x, w, b):
    y = np.full((len(x), len(w)), np.nan)
    linear.linear_forward(x, w, b, y)
    return y


def test_forward_is_the_sum_written_out(draw):
    x, w, b = draw(0, 2, 3), draw(1, 4, 3), draw(2, 4)
    y = forward(x, w, b)
    for n in range(2):
        for o in range(4):
            expected = sum(x[n, c] * w[o, c] for c in range(3)) + b[o]
            assert y[n, o] == pytest.approx(expected, rel=FLOAT64_ROUNDING)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(N=SIZES, C=SIZES, O=SIZES, bias=st.booleans())
def test_backward_agrees_with_central_differences(check_gradient, draw, N, C, O, bias):  # noqa: E741
    x, w, dy = draw(0, N, C), draw(1, O, C), draw(2, N, O)
    b = draw(3, O) if bias else None
    dx, dw = np.full((N, C), np.nan), np.full((O, C), np.nan)
    db = np.full(O, np.nan) if bias else None
    linear.linear_backward_input(dy, w, dx)
    linear.linear_backward_weight(dy, x, dw, db, False)

    def objective():
        return float((forward(x, w, b) * dy).sum())

    check_gradient(objective, x, dx)
    check_gradient(objective, w, dw)
    if bias:
        check_gradient(objective, b, db)


def test_parameter_gradients_accumulate(draw):
    dy, x = draw(0, 130, 3), draw(1, 130, 2)
    once_w, once_b = np.empty((3, 2)), np.empty(3)
    linear.linear_backward_weight(dy, x, once_w, once_b, False)
    start_w, start_b = draw(2, 3, 2), draw(3, 3)
    dw, db = start_w.copy(), start_b.copy()
    linear.linear_backward_weight(dy, x, dw, db, True)
    assert largest_error(dw, start_w + once_w) < FLOAT64_ROUNDING
    assert largest_error(db, start_b + once_b) < FLOAT64_ROUNDING


def test_bias_gradient_adds_blocks_of_64_rows_in_order():
    # 2^24 + 1 is 2^24 in float32: ones vanish one by one, but 64 of them together do not
    dy = np.ones((192, 1), np.float32)
    dy[0] = 2.0**24
    db = np.empty(1, np.float32)
    linear.linear_backward_weight(dy, np.ones((192, 1), np.float32), np.empty((1, 1)), db, False)
    first = dy[:64].sum(axis=0)
    assert db[0] == (first + np.float32(64)) + np.float32(64)
    assert db[0] >= 2.0**24 + 128


@pytest.mark.parametrize("code", [activation.GELU, activation.GELU_TANH])
def test_activation_forward_is_forward_then_activation(draw, code):
    x, w, b = draw(0, 5, 3), draw(1, 4, 3), draw(2, 4)
    y, a, expected = (np.full((5, 4), np.nan) for _ in range(3))
    linear.linear_activation_forward(x, w, b, y, a, code)
    assert np.array_equal(y, forward(x, w, b))
    activation.activation_forward(y, expected, code)
    assert np.array_equal(a, expected)


def test_decode_is_forward(draw):
    x, w, b, y = draw(0, 5, 3), draw(1, 4, 3), draw(2, 4), np.full((5, 4), np.nan)
    linear.linear_decode(x, w, b, y)
    assert np.array_equal(y, forward(x, w, b))


def test_matmul_is_the_product(draw):
    a, b, c = draw(0, 3, 5), draw(1, 5, 2), np.full((3, 2), np.nan)
    linear.matmul(a, b, c)
    assert largest_error(c, np.einsum("mk,kn->mn", a, b)) < FLOAT64_ROUNDING
