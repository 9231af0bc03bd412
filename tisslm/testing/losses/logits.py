"""Properties of losses over logits, of the contract ``tisslm.contracts.Loss``.

Losses that need hidden states are checked in ``hidden``, and those of vectors in ``embedding``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import IGNORE_INDEX, Loss, target_weights
from tisslm.errors import TissLMError
from tisslm.testing.checks import Checks, own_metrics_are_declared
from tisslm.testing.differences import FLOAT64, Tally, compare_with_differences
from tisslm.testing.examples import normal

__all__ = ["LOGITS_PROPERTIES"]

Array = NDArray[Any]
Make = Callable[[], Loss]
Tile = tuple[Array, Array, Array]

DTYPES = ("float32", "float64")

#: Two ways to the same number in float64, a few roundings each.
ROUNDING = 1e-12

#: float32 against float64: one exponential, and sums over a small vocabulary.
BOTH_TYPES = 1e-4


def example(dtype: str = "float64", n_rows: int = 9, vocab: int = 13) -> Tile:
    """Return logits, targets (none in rows 1 and 6) and weights that differ."""
    rng = np.random.default_rng(n_rows * vocab)
    logits_NV = normal(rng, (n_rows, vocab), 2.0).astype(dtype)
    targets_N = rng.integers(0, vocab, n_rows, dtype=np.int32)
    targets_N[[1, 6]] = IGNORE_INDEX
    weights_N = (0.5 + rng.random(n_rows, dtype=np.float32)).astype(dtype)
    weights_N[[1, 6]] = 0.0
    return logits_NV, targets_N, weights_N


def both(loss: Loss, logits: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
    """Return the losses and the gradient of a tile, without changing the arguments."""
    gradient = logits.copy()
    losses = loss.tile(gradient, targets.copy(), weights.copy())
    return np.array(losses), gradient  # the next call may write them again


def a_tile_gives_one_loss_a_row(checks: Checks, make: Make) -> None:
    """Check that losses are finite and of the logits' type, and that inputs are not changed."""
    for dtype in DTYPES:
        logits, targets, weights = example(dtype)
        given = targets.copy(), weights.copy()
        losses = make().tile(logits, *given)
        checks.same((losses.shape, str(losses.dtype)), (targets.shape, dtype), "losses")
        checks.finite(losses, "losses")
        checks.finite(logits, "gradient")
        checks.same(given[0], targets, "targets after tile")
        checks.same(given[1], weights, "weights after tile")
        checks.that(bool(np.any(losses != 0)), "losses that are not all zero", "zeros")


def the_gradient_is_that_of_central_differences(checks: Checks, make: Make) -> None:
    """Check the gradient by every logit in float64, to 1e-6 of the largest element."""
    for vocab in (2, 13):
        logits, targets, weights = example(vocab=vocab)
        loss = make()
        _, gradient = both(loss, logits, targets, weights)

        def objective(loss: Loss = loss, tile: Tile = (logits, targets, weights)) -> float:
            return float(loss.tile(*tile, gradient=False).sum())

        tally = Tally()
        compare_with_differences(tally, "logits", objective, logits, gradient, limit=logits.size)
        checks.n_assertions += tally.n_checked
        checks.that(tally.error < FLOAT64, f"an error below {FLOAT64:g}", tally.worst)


def without_gradient_the_logits_stay(checks: Checks, make: Make) -> None:
    """Check that ``gradient=False`` gives the same losses and writes nothing."""
    for dtype in DTYPES:
        logits, targets, weights = example(dtype)
        kept = logits.copy()
        losses = make().tile(kept, targets, weights, gradient=False)
        checks.same(kept, logits, "logits with gradient=False")
        checks.same(losses, both(make(), logits, targets, weights)[0], "losses")


def losses_and_gradient_are_linear_in_the_weights(checks: Checks, make: Make) -> None:
    """Check that ``tile(a w1 + b w2) = a tile(w1) + b tile(w2)``, for losses and gradient."""
    logits, targets, first = example()
    second = np.roll(first, 1) * (targets != IGNORE_INDEX)
    one, two = both(make(), logits, targets, first), both(make(), logits, targets, second)
    for a, b in ((2.0, -0.5), (0.0, 0.0)):
        mixed = both(make(), logits, targets, a * first + b * second)
        for i, what in enumerate(("losses", "gradient")):
            checks.close(mixed[i], a * one[i] + b * two[i], what, ROUNDING)


def rows_do_not_see_each_other(checks: Checks, make: Make) -> None:
    """Check that loss and gradient of a row do not depend on the other rows."""
    logits, targets, weights = example()
    losses, gradient = both(make(), logits, targets, weights)
    for rows in (slice(0, 1), slice(2, 6), slice(5, None)):
        part = both(make(), logits[rows].copy(), targets[rows].copy(), weights[rows].copy())
        checks.close(part[0], losses[rows], "losses of some rows", ROUNDING)
        checks.close(part[1], gradient[rows], "gradient of some rows", ROUNDING)


def no_target_means_no_loss_and_no_gradient(checks: Checks, make: Make) -> None:
    """Check that rows whose target is -100 give exact zeros, also if there are no others."""
    for dtype in DTYPES:
        logits, targets, weights = example(dtype)
        for none in (targets == IGNORE_INDEX, np.ones(len(targets), dtype=bool)):
            aimed = np.where(none, IGNORE_INDEX, targets).astype(np.int32)
            counts = np.where(none, 0, weights).astype(dtype)
            losses, gradient = both(make(), logits, aimed, counts)
            checks.that(not losses[none].any(), "zero losses at -100", losses[none])
            checks.that(not gradient[none].any(), "a zero gradient at -100", "another")


def extreme_logits_give_finite_numbers(checks: Checks, make: Make) -> None:
    """Check logits of 1e4 either way, which overflow an exponential that is not shifted."""
    for dtype in DTYPES:
        logits, targets, weights = example(dtype)
        extremes = {
            "all 1e4": np.full_like(logits, 1e4),
            "all -1e4": np.full_like(logits, -1e4),
            "of both signs": np.where(logits > 0, 1e4, -1e4).astype(dtype),
        }
        for what, values in extremes.items():
            losses, gradient = both(make(), values, targets, weights)
            checks.finite(losses, f"losses for logits {what} ({dtype})")
            checks.finite(gradient, f"gradient for logits {what} ({dtype})")


def forward_and_backward_are_those_of_the_tile(checks: Checks, make: Make) -> None:
    """Check that ``forward`` is the mean over real targets, ``backward`` its gradient, once."""
    logits, targets, _ = example()
    shaped, aimed = logits.reshape(3, 3, -1), targets.reshape(3, 3).astype(np.int64)
    losses, gradient = both(make(), logits, targets, target_weights(targets, logits.dtype))
    loss = make()
    total = loss.forward(shaped, aimed)
    checks.close(total, losses.sum(), "forward", ROUNDING)
    checks.same(shaped, logits.reshape(3, 3, -1), "logits after forward")
    checks.close(loss.backward(), gradient.reshape(3, 3, -1), "backward", ROUNDING)
    checks.raises(TissLMError, loss.backward, "a second backward")
    checks.same(loss.forward(shaped, np.full((3, 3), IGNORE_INDEX)), 0.0, "loss of no targets")


def the_same_tile_gives_the_same_bits(checks: Checks, make: Make) -> None:
    """Check that no state is kept between tiles, and nothing is random."""
    loss = make()
    first = both(loss, *example("float32"))
    both(loss, *example("float32", n_rows=8, vocab=5))
    again = both(loss, *example("float32"))
    checks.same(again[0], first[0], "losses of the same tile")
    checks.same(again[1], first[1], "gradient of the same tile")


def float32_and_float64_agree(checks: Checks, make: Make) -> None:
    """Check that losses and gradient are the same numbers in both types."""
    for vocab in (3, 203):
        exact = both(make(), *example("float64", vocab=vocab))
        rounded = both(make(), *example("float32", vocab=vocab))
        checks.close(rounded[0], exact[0], "losses in float32", BOTH_TYPES)
        checks.close(rounded[1], exact[1], "gradient in float32", BOTH_TYPES)


LOGITS_PROPERTIES: tuple[Callable[[Checks, Make], None], ...] = (
    a_tile_gives_one_loss_a_row,
    the_gradient_is_that_of_central_differences,
    without_gradient_the_logits_stay,
    losses_and_gradient_are_linear_in_the_weights,
    rows_do_not_see_each_other,
    no_target_means_no_loss_and_no_gradient,
    extreme_logits_give_finite_numbers,
    forward_and_backward_are_those_of_the_tile,
    the_same_tile_gives_the_same_bits,
    float32_and_float64_agree,
    own_metrics_are_declared,
)
