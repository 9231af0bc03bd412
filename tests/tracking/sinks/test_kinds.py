"""Kinds of values: each sink is handed those that it accepts; what a failing sink does to a run."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.contracts import Histogram, RunInfo, Sink, Text
from tisslm.errors import DataError, SinkError
from tisslm.tracking.sink_group import SinkGroup


class Keeping(Sink):
    def __init__(self) -> None:
        self.rows: list = []

    def open(self, run):
        pass

    def write(self, step, metrics):
        self.rows.append((step, dict(metrics)))


class KeepingAll(Keeping):
    accepts = frozenset({float, Histogram, Text})


class Texts(Keeping):
    accepts = frozenset({Text})


class Broken(Keeping):
    closed = 0

    def write(self, step, metrics):
        raise OSError("the disk is gone")

    def close(self):
        self.closed += 1
        raise OSError("gone for good")


def opened(*sinks: Sink, **options: str) -> SinkGroup:
    group = SinkGroup(sinks, **options)
    group.open(RunInfo(directory=None, name="run"))
    return group


def test_each_sink_is_handed_the_kinds_that_it_accepts():
    numbers, everything, texts = Keeping(), KeepingAll(), Texts()
    group = opened(numbers, everything, texts)
    histogram, text = Histogram.of(np.arange(5)), Text("once")
    group.write(1, {"a": 1.0, "h": histogram, "t": text})
    group.write(2, {"a": np.float32(2.0)})
    assert numbers.rows == [(1, {"a": 1.0}), (2, {"a": 2.0})]
    assert everything.rows[0] == (1, {"a": 1.0, "h": histogram, "t": text})
    assert texts.rows == [(1, {"t": text})]


def test_a_sink_that_raises_is_switched_off_or_ends_the_run():
    good = Keeping()
    group = opened(Broken(), good)
    with pytest.warns(RuntimeWarning, match=r"^sink Broken is switched off: OSError: the disk is"):
        group.write(1, {"a": 1.0})
    group.write(2, {"a": 1.0})
    assert [step for step, _ in good.rows] == [1, 2]
    strict = opened(Broken(), on_error="fail")
    with pytest.raises(SinkError) as caught:
        strict.write(1, {"a": 1.0})
    assert str(caught.value) == (
        "sink Broken: OSError: the disk is gone. The run ends, because training.on_sink_error = "
        '"fail"; "disable" goes on without the sink'
    )
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.filterwarnings("ignore:sink Broken is switched off")
@pytest.mark.parametrize("on_error", ["disable", "fail"])
def test_a_sink_that_raises_is_closed_once(on_error):
    broken = Broken()
    group = opened(broken, on_error=on_error)
    with contextlib.suppress(SinkError):
        group.write(1, {"a": 1.0})
    group.close()
    assert broken.closed == 1


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    st.integers(min_value=1, max_value=9),
)
def test_a_histogram_counts_every_value_and_keeps_its_moments(values, bins):
    array = np.array(values, np.float32)
    found = Histogram.of(array, bins)
    assert found.count == len(values)
    assert len(found.edges) == bins + 1
    wide = array.astype(np.float64)
    assert found.total == pytest.approx(wide.sum(), rel=1e-12, abs=1e-6)
    assert found.squares == pytest.approx((wide**2).sum(), rel=1e-12)
    assert found.edges[0] <= wide.min()
    assert found.edges[-1] >= wide.max()


def test_a_histogram_leaves_out_what_is_not_finite_and_refuses_what_is_none():
    assert Histogram.of(np.array([1.0, np.nan, np.inf, 3.0])).count == 2
    with pytest.raises(DataError, match=r"^histogram: there is no finite value to count$"):
        Histogram.of(np.array([np.nan]))
    with pytest.raises(DataError, match=r"n \+ 1 edges, got arrays of shape \(2,\) and \(2,\)$"):
        Histogram(np.zeros(2, np.int64), np.zeros(2), 0.0, 0.0)
