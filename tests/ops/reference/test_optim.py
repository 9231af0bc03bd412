"""The updates' twins: each against the plain formula, one number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import FLOAT64_ROUNDING, largest_error

from tisslm.ops.reference.optim import (
    adam_update,
    average,
    fill,
    rmsprop_update,
    scale,
    sgd_update,
    squared_norm,
)

FEW = settings(max_examples=25, deadline=None, derandomize=True)
STEPS, P, LR = 4, 6, 0.03
decays = st.sampled_from([0.0, 0.2])
scales = st.sampled_from([1.0, 0.37])


def start(draw):
    return draw(0, P), [draw(1 + t, P) for t in range(STEPS)]


def assert_same(actual, expected):
    assert largest_error(actual, np.array(expected)) < FLOAT64_ROUNDING


# --------------------------------------------------------------------------- the formulas


@FEW
@given(
    momentum=st.sampled_from([0.0, 0.9]), nesterov=st.booleans(), decay=decays, grad_scale=scales
)
def test_sgd_follows_the_formula(draw, momentum, nesterov, decay, grad_scale):
    p_P, gradients = start(draw)
    buffer_P = np.full(P, np.nan) if momentum else None  # the first update overwrites it
    expected = []
    for i in range(P):
        p, b = p_P[i], None
        for g_P in gradients:
            d = g_P[i] * grad_scale + decay * p
            b = d if b is None else momentum * b + d
            p -= LR * (d + momentum * b if nesterov and momentum else b if momentum else d)
        expected.append(p)
    for t, g_P in enumerate(gradients):
        sgd_update(p_P, g_P, buffer_P, LR, momentum, nesterov, decay, t == 0, grad_scale, None)
    assert_same(p_P, expected)


@FEW
@given(
    beta1=st.sampled_from([0.0, 0.9]),
    beta2=st.sampled_from([0.0, 0.99]),
    decay=decays,
    decoupled=st.booleans(),
    grad_scale=scales,
)
def test_adam_follows_the_formula(draw, beta1, beta2, decay, decoupled, grad_scale):
    p_P, gradients = start(draw)
    m_P, v_P = np.zeros(P), np.zeros(P)
    expected = []
    for i in range(P):
        p, m, v = p_P[i], 0.0, 0.0
        for t, g_P in enumerate(gradients, start=1):
            g = g_P[i] * grad_scale
            if decoupled:
                p *= 1 - LR * decay
            else:
                g += decay * p
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            p -= LR * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + 1e-8)
        expected.append(p)
    for t, g_P in enumerate(gradients, start=1):
        corrections = 1 - beta1**t, 1 - beta2**t
        options = (LR, beta1, beta2, 1e-8, decay, decoupled, *corrections, grad_scale, None)
        adam_update(p_P, g_P, m_P, v_P, *options)
    assert_same(p_P, expected)


@FEW
@given(
    momentum=st.sampled_from([0.0, 0.8]), centered=st.booleans(), decay=decays, grad_scale=scales
)
def test_rmsprop_follows_the_formula(draw, momentum, centered, decay, grad_scale):
    p_P, gradients = start(draw)
    square_P = np.zeros(P)
    average_P = np.zeros(P) if centered else None
    buffer_P = np.zeros(P) if momentum else None
    expected = []
    for i in range(P):
        p, square, average, b = p_P[i], 0.0, 0.0, 0.0
        for g_P in gradients:
            d = g_P[i] * grad_scale + decay * p
            square = 0.9 * square + 0.1 * d**2
            average = 0.9 * average + 0.1 * d
            variance = square - average**2 if centered else square
            b = momentum * b + d / (math.sqrt(variance) + 1e-8)
            p -= LR * b
        expected.append(p)
    for g_P in gradients:
        options = (LR, 0.9, 1e-8, decay, momentum, grad_scale, None)
        rmsprop_update(p_P, g_P, square_P, average_P, buffer_P, *options)
    assert_same(p_P, expected)


# --------------------------------------------------------------------------- properties


def sgd(p, g, state, grad_scale, moved=None):
    sgd_update(p, g, state[0], LR, 0.9, True, 0.1, False, grad_scale, moved)


def adam(p, g, state, grad_scale, moved=None):
    adam_update(p, g, *state[:2], LR, 0.9, 0.999, 1e-8, 0.1, False, 0.1, 0.001, grad_scale, moved)


def adamw(p, g, state, grad_scale, moved=None):
    adam_update(p, g, *state[:2], LR, 0.9, 0.999, 1e-8, 0.1, True, 0.1, 0.001, grad_scale, moved)


def rmsprop(p, g, state, grad_scale, moved=None):
    rmsprop_update(p, g, *state, LR, 0.9, 1e-8, 0.1, 0.9, grad_scale, moved)


every_update = pytest.mark.parametrize("update", [sgd, adam, adamw, rmsprop])


def with_state(draw, dtype):
    p, g = draw(0, 40).astype(dtype), draw(1, 40).astype(dtype)
    # in this order: large enough for a mean square, for its mean, and for a momentum
    sizes = (5, 3), (0, 0.5), (0, 0.1)
    state = [low + size * np.abs(draw(2 + i, 40)) for i, (low, size) in enumerate(sizes)]
    return p, g, [array.astype(dtype) for array in state]


@every_update
def test_a_gradient_scaled_beforehand_gives_the_same_bits(draw, update):
    p, g, state = with_state(draw, np.float32)
    q, h, other = with_state(draw, np.float32)
    update(p, g, state, 0.123456789)
    scale(h, 0.123456789)
    update(q, h, other, 1.0)
    assert not np.array_equal(g, h)
    assert p.tobytes() == q.tobytes()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(state, other, strict=True))


@every_update
def test_the_gradient_is_only_read(draw, update):
    p, g, state = with_state(draw, np.float64)
    g.flags.writeable = False
    update(p, g, state, 0.5)


def test_an_average_is_the_sum_of_weights_that_fall_by_the_decay(draw):
    values, decay = [draw(i, 40).astype(np.float64) for i in range(6)], 0.7
    mean = values[0].copy()
    for value in values[1:]:
        average(mean, value, decay)
    shares = [decay**5, *(0.3 * decay ** (5 - t) for t in range(1, 6))]
    assert sum(shares) == pytest.approx(1.0)
    expected = sum(share * value for share, value in zip(shares, values, strict=True))
    assert largest_error(mean, expected) < FLOAT64_ROUNDING
    average(mean, values[2], 0.0)
    assert largest_error(mean, values[2]) < FLOAT64_ROUNDING


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_update
def test_how_far_it_moves(draw, update, dtype):
    p, g, state = with_state(draw, dtype)
    before, moved = p.astype(np.float64), np.full((1, 2), np.nan)
    update(p, g, state, 0.5, moved)
    expected = [[math.fsum((p - before) ** 2), math.fsum(before**2)]]
    assert largest_error(moved, np.array(expected)) < FLOAT64_ROUNDING
    assert moved[0, 0] > 0


@every_update
def test_padding_stays_zero(update):
    p, state = np.zeros(16, np.float32), [np.zeros(16, np.float32) for _ in range(3)]
    update(p, np.zeros(16, np.float32), state, 0.5)
    assert not any(array.any() for array in (p, *state))


@every_update
def test_float32_is_the_rounding_of_float64(draw, update):
    p, g, state = with_state(draw, np.float64)
    q, h, other = (
        p.astype(np.float32),
        g.astype(np.float32),
        [array.astype(np.float32) for array in state],
    )
    update(p, g, state, 0.5)
    update(q, h, other, 0.5)
    assert 0 < largest_error(q, p) < 1e-6  # a few roundings of 6e-8 in each, not none
    for narrow, wide in zip(other, state, strict=True):
        assert largest_error(narrow, wide) < 1e-6


@every_update
def test_gradients_that_overflow_go_through_without_a_warning(draw, update):
    p, g, state = with_state(draw, np.float32)
    g[3], g[4] = 1e30, np.nan
    update(p, g, state, 1.0)
    assert np.isnan(p[4])
    assert np.isfinite(np.delete(p, [3, 4])).all()


def test_a_decay_below_half_a_unit_in_the_last_place_is_felt_on_average(draw):
    n, lr, decay = 50_000, 1e-4, 2e-4  # lr * decay = 2e-8, and 1 - 2e-8 is 1 in float32
    p, g = 1.5 + draw(0, n, size=0.1).astype(np.float32), draw(1, n).astype(np.float32)
    m, v = 0.1 * draw(2, n).astype(np.float32), np.square(draw(3, n)).astype(np.float32)
    exact, m64, v64 = (array.astype(np.float64) for array in (p, m, v))
    options = (0.9, 0.999, 1e-8, decay, True, 0.1, 0.001, 1.0, None)
    adam_update(p, g, m, v, lr, *options)
    adam_update(exact, g.astype(np.float64), m64, v64, lr, *options)
    # each p is rounded by up to 6e-8, their mean by 6e-8 / sqrt(3 n) = 2e-10
    assert abs((p - exact).mean()) < 1e-9


def test_a_constant_gradient_leaves_centered_rmsprop_finite():
    p, g = np.zeros(1000, np.float32), np.linspace(0.1, 3, 1000, dtype=np.float32)
    square, average = np.zeros_like(p), np.zeros_like(p)
    for _ in range(400):  # the variance falls to the rounding of its two terms
        rmsprop_update(p, g, square, average, None, 1e-3, 0.9, 1e-8, 0.0, 0.0, 1.0, None)
    assert (square < average * average).any(), "rounding did not cross zero: nothing is tested"
    assert np.isfinite(p).all()


# --------------------------------------------------------------------------- flat operations


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 40000])
def test_squared_norm_has_one_exact_sum_for_each_block(size):
    x = np.random.default_rng(0).normal(size=size).astype(np.float32)
    partial = np.full(-(-size // 16384), np.nan)
    squared_norm(x, partial)
    blocks = [x[i : i + 16384].astype(np.float64) for i in range(0, size, 16384)]
    expected = [math.fsum(block * block) for block in blocks]
    assert partial.tolist() == pytest.approx(expected, rel=FLOAT64_ROUNDING)


def test_squared_norm_does_not_overflow_in_float32():
    partial = np.full(1, np.nan)
    squared_norm(np.full(4, 1e30, np.float32), partial)
    assert partial[0] == pytest.approx(4e60, rel=1e-6)


def test_fill_overwrites_anything():
    x = np.full(5, np.nan, np.float32)
    fill(x, 2.5)
    assert x.tolist() == [2.5] * 5


def test_scale_rounds_its_factor_first():
    x = np.array([3.0, -1.0], np.float32)
    scale(x, np.float64(0.1))
    assert x.tolist() == (np.array([3, -1], np.float32) * np.float32(0.1)).tolist()
