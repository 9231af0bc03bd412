"""ActivationStats: moments, zeros and saturation over the pieces and micro-batches of a step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.errors import ConfigError
from tisslm.tracking.monitors.activation_stats import ActivationStats

STATISTICS = {"mean", "std", "absmax", "frac_zero", "frac_saturated"}


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 40),
    cut=st.integers(0, 40),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_pieces_have_the_statistics_of_the_whole(rows, cut, seed, dtype):
    x = (np.random.default_rng(seed).normal(1.0, 2.0, (rows, 700))).astype(dtype)
    x[0, ::5] = 0.0
    monitor = ActivationStats()
    for piece in (x[:cut], x[cut:]):
        monitor.observe("blocks.0.mlp.pre", piece)
    found = monitor.metrics()
    wide = x.astype(np.float64)
    expected = {
        "mean": wide.mean(),
        "std": wide.std(),
        "absmax": np.abs(wide).max(),
        "frac_zero": np.mean(x == 0.0),
        "frac_saturated": np.mean(x < -3.0),
    }
    names = {f"activation/blocks.0.mlp.pre/{name}": value for name, value in expected.items()}
    assert found == {name: pytest.approx(value, rel=1e-9) for name, value in names.items()}
    assert monitor.metrics() == {}


def test_elsewhere_what_leaves_the_range_is_saturated():
    monitor = ActivationStats()
    monitor.observe("blocks.0.mlp", np.array([[-4.0, 32769.0, -40000.0, 32768.0]], np.float32))
    assert monitor.metrics()["activation/blocks.0.mlp/frac_saturated"] == 0.5


def test_sites_inside_of_parts_may_be_left_out():
    monitor = ActivationStats(inside=False)
    for site in ("embedding", "blocks.0.attention.q", "blocks.0.mlp.pre", "final_norm"):
        monitor.observe(site, np.ones((2, 3), np.float32))
    assert {name.rpartition("/")[0] for name in monitor.metrics()} == {
        "activation/embedding",
        "activation/final_norm",
    }


def test_equal_numbers_have_no_spread():
    monitor = ActivationStats()
    monitor.observe("embedding", np.full((100, 300), 0.1, np.float32))
    assert monitor.metrics()["activation/embedding/std"] < 1e-8


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_told(bad):
    monitor = ActivationStats()
    monitor.observe("embedding", np.array([[1.0, bad]], np.float32))
    monitor.observe("embedding", np.array([[1.0, 0.0]], np.float32))
    found = monitor.metrics()
    assert not np.isfinite(found["activation/embedding/absmax"])
    assert not np.isfinite(found["activation/embedding/mean"])
    assert not np.isfinite(found["activation/embedding/std"])
    assert found["activation/embedding/frac_zero"] == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inside": 1}, "activation_stats: inside: expected true or false, got 1"),
        ({"flat": 0.0}, "activation_stats: flat: expected a number below 0, got 0.0"),
        ({"large": -1}, "activation_stats: large: expected a number above 0, got -1"),
        ({"large": "1"}, "activation_stats: large: expected a number above 0, got '1'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        ActivationStats(**options)
    assert str(caught.value) == message
