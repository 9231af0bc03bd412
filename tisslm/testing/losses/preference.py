"""Properties of losses of pairs, of the contract ``tisslm.contracts.PreferenceLoss``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import PreferenceLoss, PreferenceValue, ScoredPairs
from tisslm.testing.checks import Checks, own_metrics_are_declared
from tisslm.testing.differences import FLOAT64, Tally, compare_with_differences

__all__ = ["PREFERENCE_PROPERTIES", "scored_pairs"]

Array = NDArray[Any]
Make = Callable[[], PreferenceLoss]

#: Two orders of a few roundings each.
ROUNDING = 1e-12


def scored_pairs(n: int = 7, spread: float = 4.0) -> ScoredPairs:
    """Return log-probabilities of answers of different lengths."""
    rng = np.random.default_rng(n)
    lengths_2P = rng.integers(1, 9, (2, n)).astype(np.float64)
    reference_2P = -lengths_2P * (0.5 + rng.random((2, n)))
    policy_2P = np.minimum(reference_2P + spread * rng.standard_normal((2, n)), -1e-3)
    return ScoredPairs(policy_2P, reference_2P, lengths_2P)


def value_of(checks: Checks, loss: PreferenceLoss, pairs: ScoredPairs) -> PreferenceValue:
    """Return the value of some pairs, whose arrays must be finite and have their shapes."""
    value, shape = loss.value(pairs), pairs.policy_2P.shape
    wanted = {"losses_P": shape[1:], "d_policy_2P": shape, "rewards_2P": shape}
    for name, expected in wanted.items():
        found = getattr(value, name)
        checks.same((found.shape, str(found.dtype)), (expected, "float64"), name)
        checks.finite(found, name)
    return value


def value_is_of_each_pair(checks: Checks, make: Make) -> None:
    """Check shapes, types and finite values, and that nothing given is changed."""
    pairs = scored_pairs()
    arrays = {"policy": pairs.policy_2P, "reference": pairs.reference_2P}
    kept = {name: array.copy() for name, array in arrays.items()}
    value = value_of(checks, make(), pairs)
    checks.that(bool(value.d_policy_2P.any()), "a gradient that is not all zero", "zeros")
    for name, array in arrays.items():
        checks.same(array, kept[name], f"{name} after value")


def the_gradient_is_that_of_central_differences(checks: Checks, make: Make) -> None:
    """Check every element of the gradient to 1e-6."""
    loss, pairs, tally = make(), scored_pairs(), Tally()
    gradient = value_of(checks, loss, pairs).d_policy_2P

    def objective() -> float:
        return float(loss.value(pairs).losses_P.sum())

    x = pairs.policy_2P
    compare_with_differences(tally, "policy", objective, x, gradient, limit=x.size)
    checks.n_assertions += tally.n_checked
    checks.that(tally.error < FLOAT64, f"an error below {FLOAT64:g}", tally.worst)


def pairs_do_not_see_each_other(checks: Checks, make: Make) -> None:
    """Check that a pair alone has the loss, gradient and rewards that it has among others."""
    loss, pairs = make(), scored_pairs()
    whole = value_of(checks, loss, pairs)
    for p in range(pairs.policy_2P.shape[1]):
        part = slice(p, p + 1)
        alone = value_of(checks, loss, _part(pairs, part))
        checks.close(alone.losses_P, whole.losses_P[part], "loss of one pair", ROUNDING)
        checks.close(alone.d_policy_2P, whole.d_policy_2P[:, part], "its gradient", ROUNDING)
        checks.close(alone.rewards_2P, whole.rewards_2P[:, part], "its rewards", ROUNDING)


def a_reference_counts_where_it_is_needed(checks: Checks, make: Make) -> None:
    """Check that another reference gives another loss if it is needed, and else the same."""
    loss, pairs = make(), scored_pairs()
    other = replace(pairs, reference_2P=pairs.reference_2P[::-1].copy())
    same = bool(np.array_equal(loss.value(pairs).losses_P, loss.value(other).losses_P))
    checks.that(same is not loss.needs_reference, "needs_reference as the loss has it", same)


def far_pairs_give_finite_numbers(checks: Checks, make: Make) -> None:
    """Check answers that have gained or lost 1e4 nats, and those that have gained nothing."""
    loss, pairs = make(), scored_pairs()
    for policy_2P in (
        pairs.reference_2P,
        pairs.reference_2P - 1e4,
        pairs.reference_2P - np.array([[1e4], [0.0]]),
        pairs.reference_2P - np.array([[0.0], [1e4]]),
    ):
        value_of(checks, loss, replace(pairs, policy_2P=policy_2P))


def _part(pairs: ScoredPairs, part: slice) -> ScoredPairs:
    arrays = (pairs.policy_2P, pairs.reference_2P, pairs.lengths_2P)
    return ScoredPairs(*(array[:, part] for array in arrays))


PREFERENCE_PROPERTIES: tuple[Callable[[Checks, Make], None], ...] = (
    value_is_of_each_pair,
    the_gradient_is_that_of_central_differences,
    pairs_do_not_see_each_other,
    a_reference_counts_where_it_is_needed,
    far_pairs_give_finite_numbers,
    own_metrics_are_declared,
)
