"""Conformance checks of the norm that an optimizer measures of its updates.

The updates themselves are checked in ``optimizer``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tisslm.contracts import Optimizer
from tisslm.optim.update_norm import Movement
from tisslm.testing.checks import Checks
from tisslm.testing.examples import make_parameters, train

__all__ = ["movement_is_how_far_the_parameters_moved"]


def movement_is_how_far_the_parameters_moved(
    checks: Checks, make: Callable[..., Optimizer]
) -> None:
    """Check that a meter is filled if the optimizer declares it, and that it changes no update."""
    for dtype in ("float32", "float64"):
        optimizer, alone = make(make_parameters(dtype)), make(make_parameters(dtype))
        parameters = optimizer.parameters
        train(optimizer, range(1))
        train(alone, range(1))
        before = parameters.data.astype(np.float64)
        movement = Movement(parameters)
        train(optimizer, range(1, 2), movement)
        train(alone, range(1, 2))
        checks.same(parameters.data, alone.parameters.data, "parameters, with movement asked for")
        if not optimizer.measures_movement:
            continue
        moved = math.sqrt(math.fsum(np.square(parameters.data - before)))
        size = math.sqrt(math.fsum(np.square(before)))
        for name, expected in (("update_norm", moved), ("parameter_norm", size)):
            got = np.array(getattr(movement, name))
            checks.close(got, np.array(expected), f"movement.{name} ({dtype})", 1e-9)
