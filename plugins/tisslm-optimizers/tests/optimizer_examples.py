"""Parameters of every kind, gradients for them, and what ten steps make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Optimizer
from tisslm.memory import Parameters, ParameterSpec

Array = NDArray[Any]

#: A fused product, wide and tall matrices, vectors of it and of none, and what Muon leaves aside.
SPECS = (
    ParameterSpec("embedding.weight", (19, 6)),
    ParameterSpec("qkv.weight", (12, 6), blocks=(("q", 6), ("k", 3), ("v", 3))),
    ParameterSpec("qkv.bias", (12,), decay=False, blocks=(("q", 6), ("k", 3), ("v", 3))),
    ParameterSpec("down.weight", (6, 17)),
    ParameterSpec("norm.weight", (6,), decay=False),
    ParameterSpec("head.weight", (19, 6), lr_scale=0.5),
)
STEPS = 10
LR = 0.02


def make(dtype: str, specs: tuple[ParameterSpec, ...] = SPECS) -> Parameters:
    """Return parameters with the same values in either type."""
    parameters = Parameters(specs, dtype)
    rng = np.random.default_rng(3)
    for p in parameters:
        p.data[...] = rng.normal(size=p.shape).astype(np.float32)
    return parameters


def gradients(step: int, specs: tuple[ParameterSpec, ...] = SPECS) -> dict[str, Array]:
    """Return the gradients of a step, whose sizes differ from row to row."""
    rng = np.random.default_rng(50 + step)
    found = {}
    for spec in specs:
        size = np.exp(rng.normal(size=(spec.shape[0], *(1 for _ in spec.shape[1:]))))
        found[spec.name] = (rng.normal(size=spec.shape) * size).astype(np.float32)
    return found


def train(
    optimizer: Optimizer,
    specs: tuple[ParameterSpec, ...] = SPECS,
    steps: range = range(STEPS),
    rate: Callable[[int], float] = lambda step: LR,
) -> None:
    """Make steps with gradients of their numbers."""
    for step in steps:
        optimizer.set_lr(rate(step))
        optimizer.zero_grad()
        for name, array in gradients(step, specs).items():
            optimizer.parameters[name].grad_to_write()[0][...] = array
        optimizer.step()


def blocks(spec: ParameterSpec) -> Iterator[slice]:
    """Yield the rows of each map of a parameter."""
    yield from spec.rows().values() or (slice(0, spec.shape[0]),)
