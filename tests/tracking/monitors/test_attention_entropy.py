"""AttentionEntropy: means over the micro-batches of a step, and the head that looks least wide."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.tracking.monitors.attention_entropy import AttentionEntropy


def test_the_mean_and_the_least_head_over_all_queries():
    rng, monitor = np.random.default_rng(0), AttentionEntropy()
    parts = [rng.random((batch, 3, 5)).astype(np.float32) for batch in (2, 4)]
    for part in parts:
        monitor.observe("blocks.1.attention.entropy", part)
    heads = np.concatenate(parts).astype(np.float64).mean(axis=(0, 2))
    assert monitor.metrics() == {
        "attention/blocks.1.attention/entropy": pytest.approx(heads.mean()),
        "attention/blocks.1.attention/entropy_min": pytest.approx(heads.min()),
    }
    assert monitor.metrics() == {}


def test_one_that_is_no_number_is_told():
    monitor, entropy = AttentionEntropy(), np.ones((1, 2, 3), np.float32)
    entropy[0, 1, 2] = np.nan
    monitor.observe("a.entropy", entropy)
    assert all(np.isnan(value) for value in monitor.metrics().values())
