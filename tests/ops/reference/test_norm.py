"""The norms' twins: what they normalize, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import FLOAT64_ROUNDING, largest_error

from tisslm.ops.reference.norm import (
    layer_norm_apply,
    layer_norm_backward,
    layer_norm_forward,
    rms_norm_backward,
    rms_norm_forward,
)

EPS = 1e-5


def forward(x, gamma, beta):
    y, mean, rstd = np.full_like(x, np.nan), np.full(len(x), np.nan), np.full(len(x), np.nan)
    layer_norm_forward(x, gamma, beta, None, y, mean, rstd, EPS)
    return y, mean, rstd


def backward(dy, x, gamma, *, dres=None, dx=None, beta=True, start=None):
    N, C = x.shape
    _, mean, rstd = forward(x, gamma, None)
    dx = np.full_like(x, np.nan) if dx is None else dx
    dgamma = np.full(C, np.nan) if start is None else start.copy()
    dbeta = dgamma.copy() if beta else None
    partial = np.full((2, -(-N // 64), C), np.nan)
    layer_norm_backward(
        dy, x, gamma, mean, rstd, dres, dx, dgamma, dbeta, partial, start is not None
    )
    return dx, dgamma, dbeta


def test_rows_come_out_with_mean_zero_and_variance_one(draw):
    x = 3 + draw(0, 5, 64, size=2.0)
    y, mean, rstd = forward(x, np.ones(64), None)
    assert np.abs(y.mean(axis=1)).max() < FLOAT64_ROUNDING
    assert y.var(axis=1) == pytest.approx(np.ones(5), rel=1e-5)  # eps against a variance of 4
    assert mean == pytest.approx(x.mean(axis=1), rel=FLOAT64_ROUNDING)
    assert rstd == pytest.approx((x.var(axis=1) + EPS) ** -0.5, rel=FLOAT64_ROUNDING)


def test_apply_repeats_forward_from_its_statistics(draw):
    x, gamma, beta = draw(0, 4, 9), draw(1, 9), draw(2, 9)
    y, mean, rstd = forward(x, gamma, beta)
    again = np.full_like(x, np.nan)
    layer_norm_apply(x, gamma, beta, mean, rstd, again)
    assert np.array_equal(again, y)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(N=st.integers(1, 4), C=st.integers(2, 9), bias=st.booleans())
def test_backward_agrees_with_central_differences(check_gradient, draw, N, C, bias):
    x, gamma, dy, dres = draw(0, N, C), draw(1, C), draw(2, N, C), draw(3, N, C)
    x += np.arange(C)  # two channels alone must not come out nearly equal
    beta = draw(4, C) if bias else None
    dx, dgamma, dbeta = backward(dy, x, gamma, dres=dres, beta=bias)

    def objective():  # the residual connection passes x itself on
        return float((forward(x, gamma, beta)[0] * dy).sum() + (x * dres).sum())

    check_gradient(objective, x, dx)
    check_gradient(objective, gamma, dgamma)
    if bias:
        check_gradient(objective, beta, dbeta)


def test_parameter_gradients_over_several_blocks(check_gradient, draw):
    x, gamma, beta, dy = draw(0, 130, 3), draw(1, 3), draw(2, 3), draw(3, 130, 3)
    _, dgamma, dbeta = backward(dy, x, gamma)

    def objective():
        return float((forward(x, gamma, beta)[0] * dy).sum())

    check_gradient(objective, gamma, dgamma)
    check_gradient(objective, beta, dbeta)


def test_residual_gradient_may_be_the_output(draw):
    x, gamma, dy, dres = draw(0, 5, 6), draw(1, 6), draw(2, 5, 6), draw(3, 5, 6)
    expected, _, _ = backward(dy, x, gamma, dres=dres)
    actual, _, _ = backward(dy, x, gamma, dres=dres, dx=dres)
    assert actual is dres
    assert np.array_equal(actual, expected)


def test_without_residual_gradient_nothing_is_added(draw):
    x, gamma, dy = draw(0, 5, 6), draw(1, 6), draw(2, 5, 6)
    expected, _, _ = backward(dy, x, gamma, dres=np.zeros((5, 6)))
    assert np.array_equal(backward(dy, x, gamma)[0], expected)


def test_parameter_gradients_accumulate(draw):
    x, gamma, dy, start = draw(0, 70, 6), draw(1, 6), draw(2, 70, 6), draw(3, 6)
    _, once_gamma, once_beta = backward(dy, x, gamma)
    _, dgamma, dbeta = backward(dy, x, gamma, start=start)
    assert largest_error(dgamma, start + once_gamma) < FLOAT64_ROUNDING
    assert largest_error(dbeta, start + once_beta) < FLOAT64_ROUNDING


def rms_forward(x, gamma):
    y, rstd = np.full_like(x, np.nan), np.full(len(x), np.nan)
    rms_norm_forward(x, gamma, None, y, rstd, EPS)
    return y, rstd


def rms_backward(dy, x, gamma, *, dres=None, dx=None, start=None):
    _, rstd = rms_forward(x, gamma)
    dx = np.full_like(x, np.nan) if dx is None else dx
    dgamma = np.full(x.shape[1], np.nan) if start is None else start.copy()
    partial = np.full((-(-len(x) // 64), x.shape[1]), np.nan)
    rms_norm_backward(dy, x, gamma, rstd, dres, dx, dgamma, partial, start is not None)
    return dx, dgamma


def test_rms_rows_come_out_with_mean_square_one_whatever_their_mean(draw):
    x = 3 + draw(0, 5, 64, size=2.0)
    y, rstd = rms_forward(x, np.ones(64))
    assert np.square(y).mean(axis=1) == pytest.approx(np.ones(5), rel=1e-5)  # eps against 13
    assert rstd == pytest.approx((np.square(x).mean(axis=1) + EPS) ** -0.5, rel=FLOAT64_ROUNDING)
    assert y == pytest.approx(x * rstd[:, None], rel=FLOAT64_ROUNDING)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(N=st.integers(1, 4), C=st.integers(1, 9))
def test_rms_backward_agrees_with_central_differences(check_gradient, draw, N, C):
    x, gamma, dy, dres = 1 + draw(0, N, C), draw(1, C), draw(2, N, C), draw(3, N, C)
    dx, dgamma = rms_backward(dy, x, gamma, dres=dres)

    def objective():
        return float((rms_forward(x, gamma)[0] * dy).sum() + (x * dres).sum())

    check_gradient(objective, x, dx)
    check_gradient(objective, gamma, dgamma)


def test_rms_gradients_over_several_blocks_are_added_to(draw):
    x, gamma, dy, start = draw(0, 130, 6), draw(1, 6), draw(2, 130, 6), draw(3, 6)
    dres = draw(4, 130, 6)
    expected, once = rms_backward(dy, x, gamma, dres=dres)
    actual, dgamma = rms_backward(dy, x, gamma, dres=dres, dx=dres, start=start)
    assert actual is dres
    assert np.array_equal(actual, expected)
    assert largest_error(dgamma, start + once) < FLOAT64_ROUNDING
