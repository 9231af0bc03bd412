"""The judge itself: it accepts a right gradient and refuses slightly wrong ones."""

from __future__ import annotations

import numpy as np
import pytest


def objective_and_gradient(draw):
    x, weight = draw(0, 3, 4), draw(1, 3, 4)
    return x, (lambda: float((weight * np.sin(x)).sum())), weight * np.cos(x)


def test_the_right_gradient_passes(check_gradient, draw):
    x, objective, gradient = objective_and_gradient(draw)
    check_gradient(objective, x, gradient)


def test_x_is_left_as_it_was(check_gradient, draw):
    x, objective, gradient = objective_and_gradient(draw)
    before = x.copy()
    check_gradient(objective, x, gradient)
    assert np.array_equal(x, before)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda g: -g,
        lambda g: g * (1 + 1e-5),
        lambda g: g + 1e-5 * (np.arange(12).reshape(3, 4) == 7),
        lambda g: g[::-1],
        lambda g: np.where(np.arange(12).reshape(3, 4) == 7, np.nan, g),
    ],
    ids=["sign", "factor", "one element", "order", "nan"],
)
def test_a_wrong_gradient_is_refused(check_gradient, draw, spoil):
    x, objective, gradient = objective_and_gradient(draw)
    with pytest.raises(AssertionError):
        check_gradient(objective, x, spoil(gradient))


def test_an_objective_that_ignores_x_is_refused(check_gradient, draw):
    with pytest.raises(AssertionError, match="does not depend on x"):
        check_gradient(lambda: 1.0, draw(0, 3), np.zeros(3))
