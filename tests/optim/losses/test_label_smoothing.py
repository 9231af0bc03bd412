"""Label smoothing by hand, and its option."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tisslm.errors import ConfigError
from tisslm.optim.losses import CrossEntropy, LabelSmoothing


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_row(dtype):
    # probabilities 1/8, 2/8, 5/8; q = 0.1, 0.8, 0.1
    logits = np.log(np.array([[1, 2, 5]], dtype))
    loss = LabelSmoothing(smoothing=0.3)
    expected = math.log(8) - 0.8 * math.log(2) - 0.1 * math.log(5)
    assert loss.forward(logits, np.array([1])) == pytest.approx(expected, rel=1e-6)
    assert loss.backward()[0] == pytest.approx([0.025, -0.55, 0.525], rel=1e-6)


def test_without_smoothing_it_is_cross_entropy():
    logits, targets = np.random.default_rng(0).normal(size=(5, 9)), np.arange(5)
    smoothed, plain = LabelSmoothing(smoothing=0.0), CrossEntropy()
    assert smoothed.forward(logits, targets) == plain.forward(logits, targets)
    assert np.array_equal(smoothed.backward(), plain.backward())


def test_the_gradient_vanishes_where_the_prediction_is_the_smoothed_target():
    logits = np.log(np.array([[0.025, 0.925, 0.025, 0.025]]))
    loss = LabelSmoothing(smoothing=0.1)
    entropy = -0.925 * math.log(0.925) - 0.075 * math.log(0.025)
    assert loss.forward(logits, np.array([1])) == pytest.approx(entropy, rel=1e-12)
    assert np.abs(loss.backward()).max() < 1e-15


@pytest.mark.parametrize("smoothing", [1.0, -0.1, float("nan"), "0.1", None])
def test_a_bad_option_is_named(smoothing):
    with pytest.raises(ConfigError) as caught:
        LabelSmoothing(smoothing=smoothing)
    assert str(caught.value) == (
        f"loss label_smoothing: smoothing: expected a number in [0, 1), got {smoothing!r}"
    )
