"""Smoothing by its formula; fewer points that keep every peak and gap."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.tracking.report.series import Kept, Series

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


@given(values, st.floats(0.1, 100.0), st.data())
def test_smoothing_is_its_formula(ys, half_life, data):
    gaps = data.draw(st.lists(st.integers(1, 50), min_size=len(ys), max_size=len(ys)))
    x = np.cumsum(gaps).astype(float)
    smooth = Series(x, np.array(ys)).smoothed(half_life)
    for k in range(len(ys)):
        weights = np.exp2(-(x[k] - x[: k + 1]) / half_life)
        expected = float(weights @ np.array(ys[: k + 1]) / weights.sum())
        # rounding of some sums of values up to the largest
        assert smooth.y[k] == pytest.approx(
            expected, rel=1e-9, abs=1e-9 * max(map(abs, ys), default=0)
        )


def test_smoothing_leaves_out_what_is_not_finite():
    series = Series.of([1, 2, 3, 4], [1.0, math.nan, math.inf, 1.0])
    smooth = series.smoothed(2.0)
    assert smooth.x.tolist() == [1, 4]
    assert smooth.y.tolist() == [1.0, 1.0]
    assert series.broken.tolist() == [2, 3]
    assert not Series.of([1], [math.nan]).smoothed(1.0)


def test_steps_are_ordered_and_the_last_value_of_a_step_counts():
    series = Series.of([3, 1, 2, 3, 1], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert series.x.tolist() == [1, 2, 3]
    assert series.y.tolist() == [5.0, 3.0, 4.0]
    assert not Series.of([], [])


@given(st.lists(st.floats(-1e3, 1e3) | st.just(math.nan), min_size=1, max_size=400))
def test_fewer_points_keep_the_ends_the_peaks_and_a_gap(ys):
    series = Series(np.arange(len(ys), dtype=float), np.array(ys))
    few = series.thinned(40)
    assert len(few) <= 60
    assert set(few.x) <= set(series.x)
    assert few.x[0] == 0
    assert few.x[-1] == len(ys) - 1
    assert np.all(np.diff(few.x) > 0)
    if series.finite:
        assert few.finite.y.min() == series.finite.y.min()
        assert few.finite.y.max() == series.finite.y.max()
    assert np.isnan(series.y).any() == np.isnan(few.y).any()


def test_a_short_series_is_left_as_it_is():
    series = Series.of(range(10), range(10))
    assert series.thinned(10) is series


@given(st.integers(1, 500), st.integers(2, 20))
def test_of_a_stream_the_first_the_last_and_some_between_are_kept(n, most):
    kept = Kept[int](most)
    for step in range(n):
        kept.add(step, -step)
    found = kept.items
    assert len(found) <= most
    assert found[0] == (0, 0)
    assert found[-1] == (n - 1, 1 - n)
    gaps = {b - a for (a, _), (b, _) in itertools.pairwise(found[:-1])}
    assert len(gaps) <= 1  # evenly spread, but for the last


def test_of_a_step_that_comes_twice_the_last_item_is_kept():
    kept = Kept[str](8)
    for step, text in ((1, "a"), (2, "b"), (2, "c")):
        kept.add(step, text)
    assert kept.items == [(1, "a"), (2, "c")]
    assert Kept[str](8).items == []


def test_steps_are_replaced_by_another_metric():
    losses = Series.of([5, 10, 15], [3.0, 2.0, 1.0])
    tokens = Series.of([10, 20], [1000.0, 2000.0])
    moved = losses.over(tokens)
    assert moved.x.tolist() == [1000.0, 1500.0]  # step 5 is before the first that is known
    assert moved.y.tolist() == [2.0, 1.0]
    assert not losses.over(Series.of([1], [1.0]))
