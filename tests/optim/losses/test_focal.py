"""Focal loss by hand, and its option."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tisslm.errors import ConfigError
from tisslm.optim.losses import CrossEntropy, Focal


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_row(dtype):
    # probabilities 1/8, 2/8, 5/8: (3/4)^2 log 4, and c = (3/4)^2 (1 + 2 * 1/4 * log(4) / (3/4))
    logits = np.log(np.array([[1, 2, 5]], dtype))
    loss = Focal()
    assert loss.forward(logits, np.array([1])) == pytest.approx(0.5625 * math.log(4), rel=1e-6)
    c = 0.5625 * (1 + 2 / 3 * math.log(4))
    assert loss.backward()[0] == pytest.approx([c / 8, -0.75 * c, 0.625 * c], rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_gamma_it_is_cross_entropy(dtype):
    logits = np.random.default_rng(0).normal(size=(5, 9)).astype(dtype)
    focal, plain = Focal(gamma=0), CrossEntropy()
    expected = plain.forward(logits, np.arange(5))
    assert focal.forward(logits, np.arange(5)) == pytest.approx(expected, rel=1e-6)
    assert focal.backward() == pytest.approx(plain.backward(), abs=1e-6)


def test_easy_targets_count_less_and_hard_ones_as_much():
    logits = np.array([[5.0, 0.0], [-5.0, 0.0]])
    targets, weights = np.zeros(2, np.int32), np.ones(2)
    easy, hard = Focal().tile(logits.copy(), targets, weights) / CrossEntropy().tile(
        logits.copy(), targets, weights
    )
    assert easy < 1e-4
    assert 0.98 < hard < 1


@pytest.mark.parametrize("gamma", [-0.1, float("nan"), float("inf"), "2", None])
def test_a_bad_option_is_named(gamma):
    with pytest.raises(ConfigError) as caught:
        Focal(gamma=gamma)
    assert str(caught.value) == (f"loss focal: gamma: expected a finite number >= 0, got {gamma!r}")
