"""UpdateNorms and WeightDistribution: what they say of a parameter."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.contracts import Histogram
from tisslm.errors import ConfigError
from tisslm.tracking.monitors.update_norms import UpdateNorms
from tisslm.tracking.monitors.weight_distribution import SAMPLE, WeightDistribution


def test_norms_of_updates_and_weights_and_their_quotient():
    monitor = UpdateNorms()
    monitor.turn_to("updates")
    monitor.observe("w", np.array([[3.0, 4.0]], np.float32))
    monitor.observe("b", np.array([1.0], np.float32))
    monitor.turn_to("weights")
    monitor.observe("frozen", np.array([2.0], np.float32))
    monitor.observe("w", np.array([[0.0, 10.0]], np.float32))
    monitor.observe("b", np.array([0.0], np.float32))
    assert monitor.metrics() == {
        "update_norm/w": 5.0,
        "update_norm/b": 1.0,
        "weight_norm/frozen": 2.0,
        "weight_norm/w": 10.0,
        "weight_norm/b": 0.0,
        "update_ratio/w": 0.5,
    }
    assert monitor.metrics() == {}


def test_a_histogram_counts_every_weight_and_quantiles_are_those_of_all():
    x = np.random.default_rng(0).normal(1.0, 2.0, (123, 77)).astype(np.float32)
    monitor = WeightDistribution(bins=10)
    monitor.observe("w", x)
    found = monitor.metrics()
    histogram, wide = found["weights/w"], x.astype(np.float64)
    assert histogram.count == x.size
    assert len(histogram.counts) == 10
    assert histogram.edges[0] == wide.min()
    assert histogram.edges[-1] == wide.max()
    assert histogram.total == pytest.approx(wide.sum())
    assert histogram.squares == pytest.approx(np.square(wide).sum())
    for name, q in (("p01", 0.01), ("p25", 0.25), ("p50", 0.5), ("p75", 0.75), ("p99", 0.99)):
        assert found[f"weight/w/{name}"] == pytest.approx(np.quantile(wide, q), rel=1e-12)


@pytest.mark.parametrize("width", [1024, 1000, 987])
def test_quantiles_of_a_large_parameter_do_not_depend_on_its_columns(width):
    """Each column has a level of its own, so a sample of some columns would be far off."""
    rows = 8 * SAMPLE // width
    column = np.linspace(0.0, 1.0, width, dtype=np.float32)
    monitor = WeightDistribution()
    monitor.observe("w", np.broadcast_to(column, (rows, width)))
    found = monitor.metrics()
    for name, q in (("p01", 0.01), ("p50", 0.5), ("p99", 0.99)):
        assert found[f"weight/w/{name}"] == pytest.approx(q, abs=0.005)


def test_numbers_that_are_not_finite_are_left_out():
    monitor = WeightDistribution()
    monitor.observe("some", np.array([1.0, np.nan, 3.0, np.inf], np.float32))
    monitor.observe("none", np.array([np.nan], np.float32))
    monitor.observe("empty", np.zeros(0, np.float32))
    found = monitor.metrics()
    assert found["weights/some"].count == 2
    assert found["weight/some/p50"] == 2.0
    assert {name.split("/")[1] for name in found} == {"some"}


def test_equal_weights_have_one_bin_that_is_full():
    monitor = WeightDistribution(bins=4)
    monitor.observe("b", np.zeros(6, np.float32))
    found = monitor.metrics()
    assert sorted(found["weights/b"].counts) == [0, 0, 0, 6]
    assert found["weight/b/p99"] == 0.0


@pytest.mark.parametrize("bins", [0, 2.0, True, 4097])
def test_wrong_bins_are_refused(bins):
    with pytest.raises(ConfigError) as caught:
        WeightDistribution(bins=bins)
    assert str(caught.value) == (
        f"weight_distribution: bins: expected an integer from 1 to 4096, got {bins!r}"
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "pair", [(1.0, 1.0000001), (0.0, 1e-45), (-3e38, 3e38), (2.0, 2.0), (1e20, 1e20), (0.0, 0.0)]
)
def test_weights_that_hardly_differ_or_fill_the_range_have_a_histogram(pair, dtype):
    monitor = WeightDistribution()
    monitor.observe("w", np.array(pair, dtype))
    found = monitor.metrics()["weights/w"]
    assert found.count == Histogram.of(np.array(pair, dtype)).count == 2
    assert (np.diff(found.edges) > 0).all()


def test_neighbours_of_float64_have_bins_of_their_own():
    pair = np.array([1.0, np.nextafter(1.0, 2.0)])
    assert Histogram.of(pair).count == 2
