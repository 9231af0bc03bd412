"""Parameters to optimize: two matrices, a bias at half the learning rate, and a norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tisslm.memory import Parameters, ParameterSpec

SPECS = (
    ParameterSpec("embed", (3, 5)),
    ParameterSpec("bias", (5,), decay=False, lr_scale=0.5),
    ParameterSpec("up", (4, 9)),
    ParameterSpec("norm", (7,), decay=False),
)


@pytest.fixture(scope="session")
def make_parameters() -> Callable[..., Parameters]:
    """``make_parameters(dtype="float32", specs=SPECS)``: normal data, the same in every call."""
    return _make_parameters


@pytest.fixture(scope="session")
def set_gradients() -> Callable[[Parameters, int], None]:
    """``set_gradients(parameters, seed)``: overwrite every gradient by normal numbers."""
    return _set_gradients


def _make_parameters(
    dtype: Any = "float32", specs: tuple[ParameterSpec, ...] = SPECS
) -> Parameters:
    parameters = Parameters(specs, dtype)
    rng = np.random.default_rng(0)
    for parameter in parameters:
        parameter.data[...] = rng.normal(size=parameter.shape)
    return parameters


def _set_gradients(parameters: Parameters, seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    for parameter in parameters:
        parameter.grad_to_write()[0][...] = rng.normal(size=parameter.shape)
