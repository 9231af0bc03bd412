"""The judge of the twins' gradients: four-point central differences in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tolerances import GRADIENT_CHECK

Array = NDArray[Any]
CheckGradient = Callable[[Callable[[], float], Array, Array], None]
Draw = Callable[..., Array]

STEP = 1e-3


@pytest.fixture(scope="session")
def check_gradient() -> CheckGradient:
    """``check_gradient(objective, x, dx)``: dx is the gradient of ``objective()`` at x.

    The objective must read ``x`` itself, whose elements are moved in place, one after another.
    """
    return _check_gradient


@pytest.fixture(scope="session")
def draw() -> Draw:
    """``draw(seed, *shape, size=1.0)``: normal numbers in float64 that are known to differ."""
    return _draw


def _check_gradient(objective: Callable[[], float], x: Array, dx: Array) -> None:
    assert x.dtype == np.float64
    assert np.isfinite(dx).all()
    expected = _central_differences(objective, x)
    assert np.abs(expected).max() > 1e-3, "the objective does not depend on x: nothing is tested"
    difference = dx - expected
    error = np.linalg.norm(difference) / np.linalg.norm(expected)
    assert error < GRADIENT_CHECK, f"gradient is off by {error:.1e} of its norm"
    error = np.abs(difference).max() / np.abs(expected).max()
    assert error < GRADIENT_CHECK, f"an element is off by {error:.1e} of the largest"


def _central_differences(objective: Callable[[], float], x: Array) -> Array:
    result = np.empty_like(x)
    for index in np.ndindex(x.shape):
        centre = x[index]
        values = []
        for steps in (-2, -1, 1, 2):
            x[index] = centre + steps * STEP
            values.append(objective())
        x[index] = centre
        result[index] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * STEP)
    return result


def _draw(seed: int, *shape: int, size: float = 1.0) -> Array:
    values = np.random.default_rng(seed).normal(scale=size, size=shape)
    if values.size >= 8:
        assert np.std(values) > 0.4 * size, "inputs without spread hide errors"
    return values
