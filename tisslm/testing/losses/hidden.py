"""Properties of losses that need hidden states (``needs = "hidden"``).

Losses over logits are checked in ``logits``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import IGNORE_INDEX, Batch, Loss
from tisslm.testing.checks import Checks, own_metrics_are_declared
from tisslm.testing.differences import FLOAT64, Tally, compare_with_differences
from tisslm.testing.examples import normal

__all__ = ["HIDDEN_PROPERTIES"]

Array = NDArray[Any]
Make = Callable[[], Loss]

#: Two ways to the same number in float64, a few roundings each.
ROUNDING = 1e-12

#: float32 against float64 through a loss of unknown formula.
BOTH_TYPES = 1e-4

DTYPES = ("float32", "float64")


def example(dtype: str) -> tuple[Array, Batch]:
    """Return hidden states of shape (2, 5, 8) and a batch with two positions without target."""
    rng = np.random.default_rng(3)
    hidden_BTC = normal(rng, (2, 5, 8)).astype(dtype)
    x_BT, y_BT = rng.integers(0, 13, (2, 2, 5), dtype=np.int32)
    y_BT[0, 1] = y_BT[1, 4] = IGNORE_INDEX
    weights_BT = (0.5 + rng.random((2, 5), dtype=np.float32)).astype(dtype)
    weights_BT[y_BT == IGNORE_INDEX] = 0.0
    return hidden_BTC, Batch(x_BT, y_BT, weights_BT)


def whole_gives_a_loss_and_a_gradient(checks: Checks, make: Make) -> None:
    """Check for a finite number and an array like the hidden states, which are not changed."""
    for dtype in DTYPES:
        hidden, batch = example(dtype)
        before = hidden.copy()
        total, gradient = make().whole(hidden, batch)
        checks.finite(float(total), "loss")
        checks.same((gradient.shape, str(gradient.dtype)), (hidden.shape, dtype), "gradient")
        checks.finite(gradient, "gradient")
        checks.same(hidden, before, "hidden states after whole")


def the_gradient_is_that_of_central_differences(checks: Checks, make: Make) -> None:
    """Check every element of the gradient in float64, to 1e-6 of the largest."""
    hidden, batch = example("float64")
    loss = make()
    gradient = np.array(loss.whole(hidden, batch)[1])
    tally = Tally()
    compare_with_differences(
        tally,
        "hidden",
        lambda: float(loss.whole(hidden, batch)[0]),
        hidden,
        gradient,
        limit=hidden.size,
    )
    checks.n_assertions += tally.n_checked
    checks.that(tally.error < FLOAT64, f"an error below {FLOAT64:g}", tally.worst)


def loss_and_gradient_are_linear_in_the_weights(checks: Checks, make: Make) -> None:
    """Check that half the weights give half the loss and half the gradient."""
    hidden, batch = example("float64")
    total, gradient = make().whole(hidden, batch)
    gradient = np.array(gradient)
    halved = Batch(batch.x_BT, batch.y_BT, 0.5 * batch.weights_BT)
    half, half_gradient = make().whole(hidden, halved)
    checks.close(half, 0.5 * total, "loss at half the weights", ROUNDING)
    checks.close(half_gradient, 0.5 * gradient, "gradient at half the weights", ROUNDING)


def float32_and_float64_agree(checks: Checks, make: Make) -> None:
    """Check that loss and gradient are the same numbers in both types."""
    results = [make().whole(*example(dtype)) for dtype in DTYPES]
    checks.close(results[0][0], results[1][0], "loss in float32", BOTH_TYPES)
    checks.close(results[0][1], results[1][1], "gradient in float32", BOTH_TYPES)


HIDDEN_PROPERTIES: tuple[Callable[[Checks, Make], None], ...] = (
    whole_gives_a_loss_and_a_gradient,
    the_gradient_is_that_of_central_differences,
    loss_and_gradient_are_linear_in_the_weights,
    float32_and_float64_agree,
    own_metrics_are_declared,
)
