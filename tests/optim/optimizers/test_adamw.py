"""AdamW by hand, and beside Adam."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.memory import ParameterSpec
from tisslm.optim.optimizers import Adam, AdamW


def walk(make_parameters, make, steps=3, **options):
    parameters = make_parameters("float64", (ParameterSpec("w", (6,)),))
    optimizer = make(parameters, 0.1, **options)
    for t in range(steps):
        parameters["w"].grad_to_write()[0][...] = np.arange(6) - 2.5 + t
        optimizer.step()
    return parameters["w"].data.copy()


def test_one_step(make_parameters):
    start = make_parameters("float64", (ParameterSpec("w", (6,)),))["w"].data
    sign = np.sign(np.arange(6) - 2.5)
    after = walk(make_parameters, AdamW, steps=1, weight_decay=0.5, eps=1e-20)
    assert after == pytest.approx(start - 0.1 * (sign + 0.5 * start), rel=1e-12)


def test_without_decay_it_is_adam(make_parameters):
    expected = walk(make_parameters, Adam)
    assert np.array_equal(walk(make_parameters, AdamW, weight_decay=0.0), expected)


def test_decay_does_not_pass_through_the_running_means(make_parameters):
    slow, fast = (
        AdamW(make_parameters("float64"), 0.1, weight_decay=decay) for decay in (0.0, 0.9)
    )
    for optimizer in (slow, fast):
        for p in optimizer.parameters:
            p.grad_to_write()[0][...] = 1.0
        optimizer.step()
    for name, array in slow.state().items():
        assert np.array_equal(fast.state()[name], array)


def test_the_default_decays(make_parameters):
    assert AdamW(make_parameters(), 0.1).weight_decay == 0.01
