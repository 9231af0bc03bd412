"""How far updates move the parameters: the sums of the kernels, group by group."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tisslm.memory import Parameters, ParameterSpec, ShapeArena
from tisslm.optim.optimizers import SGD, AdamW, RMSprop
from tisslm.optim.update_norm import Movement

SPECS = (
    ParameterSpec("up.weight", (150, 120)),  # more than one block of 16384
    ParameterSpec("slow.weight", (30, 3), lr_scale=0.5),
    ParameterSpec("up.bias", (7,), decay=False),
    ParameterSpec("frozen", (50,), trainable=False),
)


@pytest.fixture(params=["float32", "float64"])
def parameters(request):
    made = Parameters(SPECS, request.param)
    for i, p in enumerate(made):
        p.data[...] = np.random.default_rng(i).normal(size=p.shape)
    return made


def step(optimizer, movement, seed):
    optimizer.zero_grad()
    for i, p in enumerate(optimizer.parameters):
        if p.trainable:
            p.grad_to_write()[0][...] = np.random.default_rng([seed, i]).normal(size=p.shape)
    assert optimizer.step(movement)
    assert optimizer.movement is None


@pytest.mark.parametrize("make", [SGD, AdamW, RMSprop])
def test_norms_are_those_of_all_groups_together(parameters, make):
    optimizer = make(parameters, 0.01)
    movement = Movement(parameters)
    for seed in range(3):
        before = {p.name: p.data.astype(np.float64) for p in parameters if p.trainable}
        step(optimizer, movement, seed)
        moved = [np.square(parameters[name].data - old).sum() for name, old in before.items()]
        size = [np.square(old).sum() for old in before.values()]
        assert movement.update_norm == pytest.approx(math.sqrt(math.fsum(moved)), rel=1e-12)
        assert movement.parameter_norm == pytest.approx(math.sqrt(math.fsum(size)), rel=1e-12)
        assert movement.ratio == movement.update_norm / movement.parameter_norm


def test_parameters_of_zero_have_no_ratio():
    parameters = Parameters([ParameterSpec("w", (3,))])
    optimizer = SGD(parameters, 0.5)
    movement = Movement(parameters)
    parameters["w"].grad_to_write()[0][...] = 1.0
    optimizer.step(movement)
    assert movement.update_norm == pytest.approx(0.5 * math.sqrt(3), rel=1e-6)
    assert math.isnan(movement.ratio)


def test_an_update_that_is_not_finite_has_no_norm(parameters):
    optimizer = SGD(parameters, 0.5)
    movement = Movement(parameters)
    parameters["up.bias"].grad_to_write()[0][...] = np.nan
    optimizer.step(movement)
    assert math.isnan(movement.update_norm)
    assert math.isnan(movement.ratio)
    assert math.isfinite(movement.parameter_norm)


def test_its_memory_is_planned():
    shapes = Parameters(SPECS, arena=ShapeArena)
    blocks = 2 + 1 + 1  # groups: decaying, slow, not decaying
    assert Movement.planned(shapes) == 16 * blocks
