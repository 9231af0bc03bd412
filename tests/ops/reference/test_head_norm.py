"""The twins of the norms of queries and keys: what is normalized over what, and the gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import FLOAT64_ROUNDING, largest_error

from tisslm.ops.reference.head_norm import head_norm_backward, head_norm_forward

H, K, D, EPS = 4, 2, 6, 1e-6
WIDE = (H + 2 * K) * D
#: Channels of gamma_q and gamma_k: by head, or over all heads.
WIDTHS = {"by head": (D, D), "over all heads": (H * D, K * D)}
both_kinds = pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS.keys())


def forward(qkv, gamma_q, gamma_k, out=None):
    N = qkv.shape[0] * qkv.shape[1]
    norms = H * D // gamma_q.size + K * D // gamma_k.size
    rstd = np.full((N, norms), np.nan)
    out = np.full_like(qkv, np.nan) if out is None else out
    head_norm_forward(qkv, gamma_q, gamma_k, rstd, out, H, K, EPS)
    return out, rstd


def backward(dout, qkv, gamma_q, gamma_k, *, dqkv=None, start=None):
    _, rstd = forward(qkv, gamma_q, gamma_k)
    dqkv = np.full_like(qkv, np.nan) if dqkv is None else dqkv
    dq, dk = (np.full_like(g, np.nan if start is None else start) for g in (gamma_q, gamma_k))
    partial = np.full((-(-len(rstd) // 64), gamma_q.size + gamma_k.size), np.nan)
    accumulate = start is not None
    head_norm_backward(dout, qkv, gamma_q, gamma_k, rstd, dqkv, dq, dk, partial, H, K, accumulate)
    return dqkv, dq, dk


@both_kinds
def test_the_mean_of_the_squares_becomes_one(draw, widths):
    """Over a head, or over all heads together, and then not over each."""
    qkv = draw(0, 2, 5, WIDE, size=3.0)
    out, rstd = forward(qkv, np.ones(widths[0]), np.ones(widths[1]))
    for first, heads, width in ((0, H, widths[0]), (H, K, widths[1])):
        part = out[:, :, first * D : (first + heads) * D].reshape(10, -1, width)
        assert (part * part).mean(axis=2) == pytest.approx(1.0, rel=1e-5)
    assert rstd.shape == (10, {D: H + K, H * D: 2}[widths[0]])
    by_head = out[0, 0, : H * D].reshape(H, D)
    is_by_head = np.abs((by_head * by_head).mean(axis=1) - 1).max() < 1e-5
    assert is_by_head == (widths[0] == D)


@both_kinds
def test_values_are_copied_and_their_gradient_is(draw, widths):
    qkv, dout = draw(0, 2, 3, WIDE), draw(1, 2, 3, WIDE)
    gammas = draw(2, widths[0]), draw(3, widths[1])
    values = slice((H + K) * D, None)
    assert np.array_equal(forward(qkv, *gammas)[0][:, :, values], qkv[:, :, values])
    assert np.array_equal(backward(dout, qkv, *gammas)[0][:, :, values], dout[:, :, values])


@both_kinds
@settings(max_examples=8, deadline=None, derandomize=True)
@given(T=st.integers(1, 3), seed=st.integers(0, 99))
def test_backward_agrees_with_central_differences(check_gradient, draw, widths, T, seed):
    qkv, dout = draw(seed, 1, T, WIDE), draw(seed + 1, 1, T, WIDE)
    gamma_q, gamma_k = 1 + draw(2, widths[0], size=0.3), 1 + draw(3, widths[1], size=0.3)
    dqkv, dgamma_q, dgamma_k = backward(dout, qkv, gamma_q, gamma_k)

    def objective():
        return float((forward(qkv, gamma_q, gamma_k)[0] * dout).sum())

    check_gradient(objective, qkv, dqkv)
    check_gradient(objective, gamma_q, dgamma_q)
    check_gradient(objective, gamma_k, dgamma_k)


@both_kinds
def test_parameter_gradients_over_several_blocks_and_added(check_gradient, draw, widths):
    qkv, dout = draw(0, 2, 70, WIDE), draw(1, 2, 70, WIDE)
    gamma_q, gamma_k = draw(2, widths[0]), draw(3, widths[1])
    _, dgamma_q, dgamma_k = backward(dout, qkv, gamma_q, gamma_k)

    def objective():
        return float((forward(qkv, gamma_q, gamma_k)[0] * dout).sum())

    check_gradient(objective, gamma_q, dgamma_q)
    check_gradient(objective, gamma_k, dgamma_k)
    _, more_q, more_k = backward(dout, qkv, gamma_q, gamma_k, start=5.0)
    assert largest_error(more_q, dgamma_q + 5) < FLOAT64_ROUNDING
    assert largest_error(more_k, dgamma_k + 5) < FLOAT64_ROUNDING


@both_kinds
def test_results_may_be_the_inputs(draw, widths):
    qkv, dout = draw(0, 2, 3, WIDE), draw(1, 2, 3, WIDE)
    gammas = draw(2, widths[0]), draw(3, widths[1])
    expected, _ = forward(qkv, *gammas)
    gradient, _, _ = backward(dout, qkv, *gammas)
    assert np.array_equal(backward(dout, qkv, *gammas, dqkv=dout)[0], gradient)
    assert np.array_equal(forward(qkv, *gammas, out=qkv)[0], expected)
