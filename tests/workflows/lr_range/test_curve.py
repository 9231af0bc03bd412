"""What a range test suggests."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.workflows.lr_range import Curve, Rates

RATES = tuple(Rates(1e-6, 1.0, 61))


def valley(rate):
    """Fall fastest at 1e-3, lie lowest at 1e-2, and rise from there."""
    x = math.log10(rate)
    return 4.0 - 2.0 / (1.0 + math.exp(-4.0 * (x + 3.0))) + 3.0 * max(0.0, x + 2.0) ** 2


def curve(losses, planned=None):
    return Curve(RATES[: len(losses)], tuple(losses), planned or len(losses), 4.0)


def test_the_rate_at_which_the_loss_falls_fastest_is_suggested():
    found = curve([valley(rate) for rate in RATES])
    assert found.suggestion == pytest.approx(1e-3, rel=0.3)
    assert found.least == pytest.approx(1e-2, rel=0.6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(noise=st.lists(st.floats(-0.05, 0.05), min_size=61, max_size=61))
def test_noise_moves_it_little(noise):
    found = curve([valley(rate) + n for rate, n in zip(RATES, noise, strict=True)])
    assert 2e-4 < found.suggestion < 5e-3


def test_a_fall_after_the_least_loss_does_not_count():
    losses = [4.0 - 0.02 * i for i in range(30)] + [9.0] * 10 + [3.6] * 10
    assert curve(losses).suggestion <= RATES[29]


def test_smoothing_keeps_lines_and_does_not_shift():
    found = curve([5.0 - 0.01 * i for i in range(61)])
    assert found.smoothed[10:-10] == pytest.approx(found.losses[10:-10], rel=1e-12)
    peak = curve([1.0] * 30 + [2.0] + [1.0] * 30).smoothed
    assert peak.index(max(peak)) == 30
    assert peak == pytest.approx(peak[::-1])
    assert curve([2.0] * 9).smoothed == pytest.approx([2.0] * 9)


@pytest.mark.parametrize(
    "losses",
    [[], [4.0], [4.0, 3.0, 2.0, 1.0, 0.5, 0.4, 0.3], [1.0 + 0.1 * i for i in range(40)]],
    ids=["none", "one", "seven", "rising"],
)
def test_without_a_fall_there_is_no_suggestion(losses):
    assert curve(losses).suggestion is None


def test_facts_are_json():
    found = curve([valley(rate) for rate in RATES], planned=70)
    facts = json.loads(json.dumps(found.facts(), allow_nan=False))
    assert list(facts) == [
        "suggestion",
        "least",
        "diverged",
        "first_loss",
        "rates",
        "losses",
        "smoothed",
    ]
    assert (facts["diverged"], len(facts["smoothed"])) == (True, 61)
    assert curve([]).facts()["least"] is None
