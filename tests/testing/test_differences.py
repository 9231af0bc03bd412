"""The judge of gradients: it accepts a right one, refuses slightly wrong ones, and says where."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tisslm.testing.differences import FLOAT64, Tally, compare_with_differences


def problem(size=60):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(size // 4, 4)), rng.normal(size=(size // 4, 4))
    return x, (lambda: float((weight * np.sin(x)).sum())), weight * np.cos(x)


@pytest.mark.parametrize("limit", [1, 2, 24, 60, 100])
def test_a_right_gradient_passes_and_x_is_left_as_it_was(limit):
    x, objective, gradient = problem()
    before = x.copy()
    tally = Tally()
    compare_with_differences(tally, "x", objective, x, gradient, limit=limit)
    assert tally.error < 1e-3 * FLOAT64
    assert tally.n_checked == min(limit, 60) + 1
    assert np.array_equal(x, before)


ONE = np.arange(60).reshape(15, 4) == 37


@pytest.mark.parametrize("limit", [4, 100], ids=["some elements", "all elements"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda g: -g,
        lambda g: g * (1 + 1e-5),
        lambda g: g + 1e-4 * ONE,
        lambda g: g[::-1],
        lambda g: np.where(ONE, np.nan, g),
        lambda g: np.where(ONE, 1e9, g),
        lambda g: g[:, :3],
    ],
    ids=["sign", "factor", "one element", "order", "nan", "huge", "shape"],
)
def test_a_wrong_gradient_is_refused_even_where_no_element_was_moved(spoil, limit):
    x, objective, gradient = problem()
    tally = Tally()
    compare_with_differences(tally, "x", objective, x, spoil(gradient), limit=limit)
    assert not tally.error < FLOAT64


def test_views_of_a_larger_array_are_moved_themselves():
    whole = np.random.default_rng(0).normal(size=(3, 6))
    part = whole[:, 1:3]
    tally = Tally()
    compare_with_differences(tally, "part", lambda: float((whole**2).sum()), part, 2 * part)
    assert tally.error < 1e-3 * FLOAT64


def test_an_objective_that_ignores_x_is_refused():
    tally = Tally()
    compare_with_differences(tally, "x", lambda: 1.0, np.ones(3), np.zeros(3))
    assert tally.error == math.inf
    assert tally.worst == "d x: expected values other than zero, or nothing is tested"


def test_the_worst_of_many_comparisons_is_kept():
    tally = Tally()
    tally.compare("a", [1.0, 2.0], [1.0, 2.0])
    assert tally.error == 0.0
    tally.compare("b", [[1.0, 2.2]], [[1.0, 2.0]])
    tally.compare("c", [1.01], [1.0])
    assert tally.error == pytest.approx(0.1)
    assert tally.worst == "b[0, 1]: expected 2, got 2.2"
    assert tally.n_checked == 5


@pytest.mark.parametrize(
    ("got", "expected", "worst"),
    [
        ([1.0, math.nan], [1.0, 1.0], "x[1]: expected 1, got nan"),
        ([0.5], [0.0], "x: expected values other than zero, or nothing is tested"),
        ([1.0], [1.0, 1.0], "x: expected shape (2,), got (1,)"),
        ([], [], "x: expected shape (0,), got (0,)"),
    ],
)
def test_what_cannot_be_compared_is_an_error_without_bound(got, expected, worst):
    tally = Tally()
    tally.compare("x", got, expected)
    assert (tally.error, tally.worst) == (math.inf, worst)


def test_a_scale_stands_for_terms_that_cancel():
    tally = Tally()
    tally.compare("x", [1e-9], [0.0], scale=1.0)
    assert tally.error == 1e-9
