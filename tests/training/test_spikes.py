"""What is a spike: the formula, by NumPy, and what must not be one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.training.refusals.guard import LEAST, NORMAL, find_spike
from tisslm.training.state import LossHistory

LOSS = st.floats(0.01, 20.0)


@given(st.lists(LOSS, min_size=10, max_size=60), LOSS, st.integers(10, 60), st.floats(0.5, 50.0))
def test_a_spike_is_beyond_so_many_deviations_of_the_window(history, loss, window, threshold):
    found = find_spike(history, loss, window=window, threshold=threshold)
    if len(history) < window:
        assert found is None
        return
    recent = np.array(history[-window:])
    median = np.median(recent)
    deviation = max(NORMAL * np.median(np.abs(recent - median)), LEAST * median)
    assert (found is not None) == (loss > median and (loss - median) / deviation > threshold)
    if found is not None:
        assert (found.median, found.deviation) == (median, deviation)
        assert found.distance == (loss - median) / deviation


@pytest.mark.parametrize("kind", [list, LossHistory])
def test_earlier_spikes_hide_none(kind):
    noise = np.random.default_rng(5).normal(3.0, 0.1, 100)
    noise[::4] += 5.0  # a quarter of the window
    found = find_spike(kind(noise.tolist()), 6.0, window=100, threshold=10.0)
    assert found is not None
    mean = float(np.mean(noise)), float(np.std(noise))
    assert mean[0] + 10 * mean[1] > 6.0  # by mean and standard deviation it is none


def test_losses_that_are_all_alike_have_a_deviation():
    assert find_spike([2.0] * 10, 2.01, window=10, threshold=10.0) is None
    found = find_spike([2.0] * 10, 2.03, window=10, threshold=10.0)
    assert found is not None
    assert found.distance == pytest.approx(15.0)


@pytest.mark.parametrize("alike", [0.0, 1e-300, 3e-8])
def test_rounding_of_a_loss_near_0_is_no_spike(alike):
    assert find_spike([alike] * 10, 6e-7, window=10, threshold=10.0) is None
    found = find_spike([alike] * 10, 1e-3, window=10, threshold=10.0)
    assert found is not None
    assert found.distance == pytest.approx(1000.0, rel=1e-3)


def test_a_falling_loss_has_no_spikes():
    rng = np.random.default_rng(6)
    losses = [4.0 * math.exp(-i / 300) + 1.5 + 0.1 * rng.normal() for i in range(2000)]
    for i in range(100, 2000):
        assert find_spike(losses[:i], losses[i], window=100, threshold=10.0) is None
