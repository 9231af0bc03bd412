"""RMSprop by hand, on numbers that float64 holds nearly exactly."""

from __future__ import annotations

import math

import pytest

from tisslm.memory import ParameterSpec
from tisslm.optim.optimizers import RMSprop


def walk(make_parameters, **options):
    """Two steps with gradients 2 and 4, alpha = 1/2: square = 2, 9; average = 1, 2.5."""
    parameters = make_parameters("float64", (ParameterSpec("w", (1,)),))
    parameters["w"].data[...] = 1.0
    optimizer = RMSprop(parameters, 0.1, alpha=0.5, eps=1e-20, **options)
    for gradient in (2.0, 4.0):
        parameters["w"].grad_to_write()[0][...] = gradient
        optimizer.step()
    return float(parameters["w"].data[0])


def test_two_steps(make_parameters):
    expected = 1 - 0.1 * 2 / math.sqrt(2) - 0.1 * 4 / 3
    assert walk(make_parameters) == pytest.approx(expected, rel=1e-12)


def test_two_centered_steps(make_parameters):
    # variances 2 - 1 and 9 - 6.25
    expected = 1 - 0.1 * 2 / 1 - 0.1 * 4 / math.sqrt(2.75)
    assert walk(make_parameters, centered=True) == pytest.approx(expected, rel=1e-12)


def test_two_steps_with_momentum(make_parameters):
    first = 2 / math.sqrt(2)
    expected = 1 - 0.1 * first - 0.1 * (0.5 * first + 4 / 3)
    assert walk(make_parameters, momentum=0.5) == pytest.approx(expected, rel=1e-12)
