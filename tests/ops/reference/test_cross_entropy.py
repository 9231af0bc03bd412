"""The losses' twins: their values, their gradients, and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from tolerances import FLOAT64_ROUNDING, largest_error

from tisslm.ops.reference.cross_entropy import (
    cross_entropy_tile,
    exp_sum,
    focal_tile,
    softmax_gradient,
    target_rank,
)

FEW = settings(max_examples=20, deadline=None, derandomize=True)

#: A tile function with its option, for the properties that all of them share.
TILES = {
    "cross_entropy": (cross_entropy_tile, 0.0),
    "label_smoothing": (cross_entropy_tile, 0.1),
    "focal": (focal_tile, 2.0),
    "focal_zero": (focal_tile, 0.0),
    "focal_root": (focal_tile, 0.5),
}
every_tile = pytest.mark.parametrize(("tile", "option"), TILES.values(), ids=TILES.keys())


def run(tile, option, logits, targets, weights, *, gradient=True):
    """Return losses and the logits' array afterwards, which is a copy."""
    after, losses = logits.copy(), np.full(len(logits), np.nan, logits.dtype)
    code = tile(after, targets, weights, losses, option, gradient)
    assert code == 0
    return losses, after


def example(draw, N=5, V=7, size=1.5):
    targets = np.random.default_rng(9).integers(0, V, N).astype(np.int32)
    return draw(0, N, V, size=size), targets, np.abs(draw(1, N)) + 0.1


# --------------------------------------------------------------------------- values


@FEW
@given(N=st.integers(1, 6), V=st.integers(1, 9), smoothing=st.sampled_from([0.0, 0.1, 0.7]))
def test_cross_entropy_is_minus_the_expected_log_softmax(draw, N, V, smoothing):
    logits, targets, weights = example(draw, N, V)
    q = (1 - smoothing) * np.eye(V)[targets] + smoothing / V
    losses, _ = run(cross_entropy_tile, smoothing, logits, targets, weights)
    expected = -weights * (q * log_softmax(logits, axis=1)).sum(axis=1)
    assert largest_error(losses, expected, 1.0) < FLOAT64_ROUNDING


@FEW
@given(N=st.integers(1, 6), V=st.integers(2, 9), gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]))
def test_focal_is_cross_entropy_times_a_power_of_the_miss(draw, N, V, gamma):
    logits, targets, weights = example(draw, N, V)
    log_p = log_softmax(logits, axis=1)[np.arange(N), targets]
    losses, _ = run(focal_tile, gamma, logits, targets, weights)
    expected = -weights * (1 - np.exp(log_p)) ** gamma * log_p
    assert largest_error(losses, expected, 1.0) < FLOAT64_ROUNDING


def test_focal_without_gamma_is_cross_entropy(draw):
    arguments = example(draw)
    losses, gradient = run(focal_tile, 0.0, *arguments)
    expected, expected_gradient = run(cross_entropy_tile, 0.0, *arguments)
    assert largest_error(losses, expected) < FLOAT64_ROUNDING
    assert largest_error(gradient, expected_gradient) < FLOAT64_ROUNDING


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary():
    logits, weights = np.full((3, 65), 4.2), np.ones(3)
    losses, _ = run(cross_entropy_tile, 0.3, logits, np.array([0, 1, 64], np.int32), weights)
    assert losses == pytest.approx(np.full(3, np.log(65)), rel=FLOAT64_ROUNDING)


def sums(logits):
    top, total = np.empty(len(logits)), np.empty(len(logits))
    exp_sum(logits, top, total)
    return top, total


def test_exp_sum_of_logits_that_overflow_alone(draw):
    logits = np.round(draw(0, 4, 9) * 128) / 128  # so that a shift is exact
    top, total = sums(logits)
    lse = np.log(np.exp(logits).sum(axis=1))
    assert top + np.log(total) == pytest.approx(lse, rel=FLOAT64_ROUNDING)
    moved, same = sums(logits + 1e4)
    assert np.array_equal(moved, top + 1e4)
    assert np.array_equal(same, total)


# --------------------------------------------------------------------------- gradients


@FEW
@given(N=st.integers(1, 4), V=st.integers(2, 8), smoothing=st.sampled_from([0.0, 0.1, 0.7]))
def test_cross_entropy_gradient(check_gradient, draw, N, V, smoothing):
    logits, targets, weights = example(draw, N, V)
    _, dlogits = run(cross_entropy_tile, smoothing, logits, targets, weights)

    def objective():
        args = (logits, targets, weights)
        return run(cross_entropy_tile, smoothing, *args, gradient=False)[0].sum()

    check_gradient(objective, logits, dlogits)


@FEW
@given(N=st.integers(1, 4), V=st.integers(2, 8), gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]))
def test_focal_gradient(check_gradient, draw, N, V, gamma):
    logits, targets, weights = example(draw, N, V)
    _, dlogits = run(focal_tile, gamma, logits, targets, weights)

    def objective():
        return run(focal_tile, gamma, logits, targets, weights, gradient=False)[0].sum()

    check_gradient(objective, logits, dlogits)


@FEW
@given(N=st.integers(1, 4), V=st.integers(2, 8))
def test_softmax_gradient_of_a_function_of_lse_and_target(check_gradient, draw, N, V):
    """The z-loss: cross-entropy plus c lse^2."""
    logits, targets, weights = example(draw, N, V)

    def objective():
        top, total = sums(logits)
        lse = top + np.log(total)
        return float((weights * (lse - logits[np.arange(N), targets] + 0.3 * lse**2)).sum())

    top, total = sums(logits)
    dlogits, pull = logits.copy(), 1 + 0.6 * (top + np.log(total))
    softmax_gradient(dlogits, top, total, targets, weights * pull, weights)
    check_gradient(objective, logits, dlogits)


@pytest.mark.parametrize("outside", [-100, -1, 7, 2**31 - 1])
def test_softmax_gradient_subtracts_nothing_without_a_target(draw, outside):
    logits, targets, weights = example(draw)
    targets[2] = outside
    dlogits = logits.copy()
    softmax_gradient(dlogits, *sums(logits), targets, weights, 10 * weights)
    softmax = np.exp(log_softmax(logits, axis=1))
    assert largest_error(dlogits[2], weights[2] * softmax[2]) < FLOAT64_ROUNDING
    assert dlogits[[0, 1, 3, 4], targets[[0, 1, 3, 4]]].max() < 0


@FEW
@given(N=st.integers(1, 6), V=st.integers(1, 9), data=st.data())
def test_the_rank_is_the_place_in_a_stable_sort(N, V, data):
    few = st.sampled_from([-1.0, 0.0, 0.5, 2.0])  # so that many are equal
    logits = np.array(
        data.draw(st.lists(st.lists(few, min_size=V, max_size=V), min_size=N, max_size=N))
    )
    targets = np.array(data.draw(st.lists(st.integers(0, V - 1), min_size=N, max_size=N)))
    ranks = np.full(N, -7, np.int32)
    assert target_rank(logits, targets, ranks) == 0
    order = np.argsort(-logits, axis=1, kind="stable")
    assert ranks.tolist() == [row.tolist().index(t) for row, t in zip(order, targets, strict=True)]
    assert ((ranks == 0) == (logits.argmax(axis=1) == targets)).all()


def test_ranks_where_a_logit_is_no_number_or_no_target_is_there():
    logits = np.array([[1.0, np.nan, 0.5], [np.nan, 1.0, 2.0], [3.0, 2.0, 1.0], [0.0, np.inf, 1.0]])
    ranks = np.full(4, -7, np.int32)
    assert target_rank(logits, np.array([0, 0, -100, 1]), ranks) == 0
    assert ranks.tolist() == [1, 2, -1, 0]
    ranks[...] = -7
    assert target_rank(logits, np.array([0, 3, -1, 1]), ranks) == 2
    assert ranks.tolist() == [-7] * 4


# --------------------------------------------------------------------------- properties


@every_tile
def test_without_gradient_the_logits_stay_and_the_losses_are_the_same(draw, tile, option):
    logits, targets, weights = example(draw)
    expected, _ = run(tile, option, logits, targets, weights)
    losses, after = run(tile, option, logits, targets, weights, gradient=False)
    assert np.array_equal(after, logits)
    assert np.array_equal(losses, expected)


@every_tile
def test_rows_are_independent_to_the_bit(draw, tile, option):
    logits, targets, weights = example(draw, N=9, V=37)
    losses, dlogits = run(tile, option, logits, targets, weights)
    for rows in (slice(0, 1), slice(3, 8), slice(8, None)):
        part = run(tile, option, logits[rows], targets[rows], weights[rows])
        assert np.array_equal(part[0], losses[rows])
        assert np.array_equal(part[1], dlogits[rows])


@every_tile
def test_losses_and_gradient_are_linear_in_the_weights(draw, tile, option):
    logits, targets, weights = example(draw)
    losses, dlogits = run(tile, option, logits, targets, np.ones_like(weights))
    weighted, weighted_gradient = run(tile, option, logits, targets, weights)
    assert largest_error(weighted, weights * losses) < FLOAT64_ROUNDING
    assert largest_error(weighted_gradient, weights[:, None] * dlogits) < FLOAT64_ROUNDING


@every_tile
@pytest.mark.parametrize("content", [0.5, np.nan, np.inf, -np.inf])
def test_no_target_is_a_constant_whatever_the_row_holds(draw, tile, option, content):
    logits, targets, weights = example(draw)
    expected, expected_gradient = run(tile, option, logits, targets, weights)
    targets[3], logits[3] = -100, content
    losses, dlogits = run(tile, option, logits, targets, weights)
    others = [0, 1, 2, 4]
    assert losses[3] == 0
    assert not dlogits[3].any()
    assert np.array_equal(losses[others], expected[others])
    assert np.array_equal(dlogits[others], expected_gradient[others])


@every_tile
@pytest.mark.parametrize("bad", [-1, -99, -101, 7, 2**31 - 1])
def test_the_first_bad_target_is_named_and_nothing_is_written(draw, tile, option, bad):
    logits, targets, weights = example(draw)
    targets[[2, 4]], targets[0] = bad, -100
    before, losses = logits.copy(), np.full(5, np.nan)
    assert tile(logits, targets, weights, losses, option, True) == 1 + 2
    assert np.array_equal(logits, before)
    assert np.isnan(losses).all()


@every_tile
def test_no_rows_are_fine(tile, option):
    losses, after = run(
        tile, option, np.empty((0, 5)), np.empty(0, np.int32), np.empty(0), gradient=True
    )
    assert losses.shape == (0,)
    assert after.shape == (0, 5)


@every_tile
def test_nan_logits_give_nan(draw, tile, option):
    logits, targets, weights = example(draw)
    logits[2, 5] = np.nan
    losses, dlogits = run(tile, option, logits, targets, weights)
    assert np.array_equal(np.isnan(losses), np.arange(5) == 2)
    assert np.array_equal(np.isnan(dlogits).all(axis=1), np.arange(5) == 2)


@every_tile
def test_large_logits_do_not_overflow(draw, tile, option):
    logits, targets, weights = example(draw)
    losses, dlogits = run(tile, option, logits, targets, weights)
    shifted, shifted_gradient = run(tile, option, logits + 1e4, targets, weights)
    assert largest_error(shifted, losses, 1e4) < FLOAT64_ROUNDING
    assert largest_error(shifted_gradient, dlogits, 1e4) < FLOAT64_ROUNDING


def test_a_masked_token_has_no_gradient(draw):
    logits, targets, weights = example(draw)
    targets[...] = 1
    logits[:, 4] = -np.inf
    for tile, option in (TILES["cross_entropy"], TILES["focal"]):
        losses, dlogits = run(tile, option, logits, targets, weights)
        assert np.isfinite(losses).all()
        assert np.isfinite(dlogits).all()
        assert not dlogits[:, 4].any()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_certain_target_costs_nothing_and_stays_finite(gamma, dtype):
    logits = np.array([[900, 0, 0]], dtype)
    losses, dlogits = run(focal_tile, gamma, logits, np.zeros(1, np.int32), np.ones(1, dtype))
    assert losses[0] == 0
    assert not dlogits.any()


@every_tile
@pytest.mark.parametrize("dtype", [np.float32, np.longdouble])
def test_arithmetic_is_in_the_type_of_the_arrays(draw, tile, option, dtype):
    """A gradient sums to zero over a row as far as its own type can tell, and no further."""
    logits, targets, weights = example(draw, V=64)
    option = round(option * 64) / 64  # and option / V: exact in every type
    _, dlogits = run(tile, option, logits.astype(dtype), targets, weights.astype(dtype))
    sums = np.abs(dlogits.astype(np.longdouble).sum(axis=1)).max()
    assert sums < 64 * np.finfo(dtype).eps
    assert sums > 0.001 * np.finfo(dtype).eps
