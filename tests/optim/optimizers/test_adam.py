"""Adam by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tisslm.memory import ParameterSpec
from tisslm.optim.optimizers import Adam


def walk(make_parameters, gradients, **options):
    parameters = make_parameters("float64", (ParameterSpec("w", (1,)),))
    parameters["w"].data[...] = 2.0
    optimizer = Adam(parameters, 0.1, **options)
    for gradient in gradients:
        parameters["w"].grad_to_write()[0][...] = gradient
        optimizer.step()
    return float(parameters["w"].data[0])


@pytest.mark.parametrize("gradient", [1e-4, 3.0, -3e4])
def test_the_first_step_has_the_length_of_the_learning_rate(make_parameters, gradient):
    end = walk(make_parameters, [gradient], eps=1e-20)
    assert end == pytest.approx(2.0 - math.copysign(0.1, gradient), rel=1e-12)


def test_two_steps(make_parameters):
    # m = 0.1, then 0.9 * 0.1 + 0.1 * 3 = 0.39; v = 0.001, then 0.999 * 0.001 + 0.001 * 9 = 0.009999
    second = (0.39 / (1 - 0.9**2)) / (math.sqrt(0.009999 / (1 - 0.999**2)) + 1e-8)
    expected = 2.0 - 0.1 / (1 + 1e-8) - 0.1 * second
    assert walk(make_parameters, [1.0, 3.0]) == pytest.approx(expected, rel=1e-12)


def test_decay_is_part_of_the_gradient(make_parameters):
    """So a first step has the same length with it: that is what AdamW mends."""
    assert walk(make_parameters, [1.0], weight_decay=0.5) == pytest.approx(1.9, rel=1e-8)
    assert walk(make_parameters, [1.0], weight_decay=0.5) == walk(make_parameters, [2.0])


def test_defaults_are_those_of_the_paper(make_parameters):
    optimizer = Adam(make_parameters(), np.float32(0.5))
    assert (optimizer.beta1, optimizer.beta2, optimizer.eps) == (0.9, 0.999, 1e-8)
    assert optimizer.weight_decay == 0.0
