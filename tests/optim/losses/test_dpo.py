"""DPO by its formulas, written out pair by pair, and the options that it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tisslm.contracts import ScoredPairs
from tisslm.errors import ConfigError
from tisslm.optim.losses import DPO
from tisslm.testing import check_loss
from tisslm.testing.losses.preference import scored_pairs


def logistic(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def by_hand(pairs: ScoredPairs, p: int, **options: Any) -> float:
    """Return the loss of a pair."""
    beta, kind = options.get("beta", 0.1), options.get("loss_type", "sigmoid")
    gains = []
    for k in (0, 1):
        gain = pairs.policy_2P[k, p]
        if not options.get("reference_free"):
            gain -= pairs.reference_2P[k, p]
        if options.get("length_normalized", kind == "ipo"):
            gain /= pairs.lengths_2P[k, p]
        gains.append(gain)
    h, e = gains[0] - gains[1], options.get("label_smoothing", 0.0)
    if kind == "ipo":
        return float((h - 1 / (2 * beta)) ** 2)
    if kind == "hinge":
        return max(0.0, 1 - beta * h)
    return -(1 - e) * math.log(logistic(beta * h)) - e * math.log(logistic(-beta * h))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": 0.5, "label_smoothing": 0.3},
        {"loss_type": "hinge"},
        {"loss_type": "hinge", "length_normalized": True, "beta": 2.0},
        {"loss_type": "ipo", "beta": 0.2},
        {"loss_type": "ipo", "length_normalized": False},
        {"reference_free": True, "length_normalized": True},
    ],
    ids=str,
)
def test_the_loss_is_the_formula(options: dict[str, Any]) -> None:
    pairs = scored_pairs(9)
    value = DPO(**options).value(pairs)
    expected = [by_hand(pairs, p, **options) for p in range(9)]
    np.testing.assert_allclose(value.losses_P, expected, rtol=1e-12)


def test_it_keeps_the_contract_of_losses() -> None:
    assert check_loss(DPO).n_assertions > 100


def test_without_a_gain_the_loss_is_ln_2_and_pulls_the_answers_apart() -> None:
    pairs = scored_pairs(4)
    same = ScoredPairs(pairs.reference_2P, pairs.reference_2P, pairs.lengths_2P)
    value = DPO(beta=0.3).value(same)
    np.testing.assert_allclose(value.losses_P, math.log(2))
    np.testing.assert_allclose(value.d_policy_2P, [[-0.15] * 4, [0.15] * 4])
    assert not value.rewards_2P.any()


def test_rewards_are_beta_times_the_gain() -> None:
    pairs = scored_pairs(5)
    gain_2P = pairs.policy_2P - pairs.reference_2P
    np.testing.assert_array_equal(DPO(beta=0.3).value(pairs).rewards_2P, 0.3 * gain_2P)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, r"loss dpo: beta: expected a finite number >= 1e-06, got 0.0"),
        ({"loss_type": "kto"}, r'loss dpo: loss_type: expected "sigmoid" or "hinge" or "ipo"'),
        ({"label_smoothing": 0.5}, r"label_smoothing: expected a number in \[0, 0.5\), got 0.5"),
        (
            {"loss_type": "ipo", "label_smoothing": 0.1},
            r'label_smoothing: expected 0 with loss_type "ipo", got 0.1; leave it out',
        ),
        ({"reference_free": 1}, r"reference_free: expected true or false, got 1"),
        ({"length_normalized": "no"}, r"length_normalized: expected true or false, got 'no'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DPO(**options)
