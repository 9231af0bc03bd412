"""Cross-entropy by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tisslm.optim.losses import CrossEntropy


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_row(dtype):
    # probabilities 1/8, 2/8, 5/8
    logits = np.log(np.array([[1, 2, 5]], dtype))
    loss = CrossEntropy()
    assert loss.forward(logits, np.array([1])) == pytest.approx(math.log(4), rel=1e-6)
    assert loss.backward()[0] == pytest.approx([0.125, -0.75, 0.625], rel=1e-6)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary():
    loss = CrossEntropy().forward(np.zeros((2, 3, 65)), np.zeros((2, 3), int))
    assert loss == pytest.approx(math.log(65), rel=1e-12)
