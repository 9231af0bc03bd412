"""The sink ``memory``: rows as they were given, dropped after the step that a run goes on from."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tisslm.contracts import Histogram, RunInfo, Text
from tisslm.errors import ConfigError, DataError
from tisslm.testing import check_sink
from tisslm.tracking.sinks.memory import MemorySink


def run(resumed_step: int = 0) -> RunInfo:
    return RunInfo(Path(), "run", resumed_step=resumed_step)


def test_rows_are_what_was_written() -> None:
    sink, histogram = MemorySink(), Histogram.of(np.arange(10.0), bins=4)
    sink.open(run())
    sink.write(1, {"train/loss": math.inf, "weights/w": histogram, "sample/0": Text("a b")})
    sink.write(2, {"train/loss": 2.5})
    sink.write(2, {"eval/loss": 3})
    sink.close()
    assert sink.rows == [
        {"step": 1, "train/loss": math.inf, "weights/w": histogram, "sample/0": Text("a b")},
        {"step": 2, "train/loss": 2.5},
        {"step": 2, "eval/loss": 3},
    ]
    assert sink.rows[0]["weights/w"] is histogram
    assert sink.values("train/loss") == [(1, math.inf), (2, 2.5)]
    assert sink.values("nothing") == []


def test_a_run_that_goes_on_has_each_step_once() -> None:
    sink = MemorySink()
    for start, stop in ((0, 5), (3, 6)):
        sink.open(run(start))
        for step in range(start + 1, stop + 1):
            sink.write(step, {"x": 1.0 * step})
        sink.close()
    assert sink.values("x") == [(step, step) for step in range(1, 7)]
    rows = sink.rows
    sink.open(run())
    assert sink.rows is rows
    assert rows == []


def test_the_newest_rows_are_kept() -> None:
    sink = MemorySink(max_rows=3)
    sink.open(run())
    for step in range(1, 8):
        sink.write(step, {"x": step})
    assert sink.values("x") == [(5, 5), (6, 6), (7, 7)]


def test_a_caller_may_change_what_it_has_written() -> None:
    sink, metrics = MemorySink(), {"x": 1.0}
    sink.open(run())
    sink.write(1, metrics)
    metrics["x"] = 2.0
    assert sink.values("x") == [(1, 1.0)]


@pytest.mark.parametrize("value", [-1, 1.5, True, "3"])
def test_max_rows_is_a_count(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        MemorySink(max_rows=value)  # type: ignore[arg-type]
    assert str(caught.value) == f"sink memory: max_rows: expected an integer >= 0, got {value!r}"


def test_a_metric_is_not_called_step() -> None:
    sink = MemorySink()
    sink.open(run())
    with pytest.raises(DataError) as caught:
        sink.write(1, {"step": 1.0})
    assert str(caught.value) == (
        "sink memory: 'step' is the first field of every row; rename the metric"
    )


def test_it_keeps_the_contract() -> None:
    check_sink(MemorySink, name="sink memory")


def test_a_new_run_keeps_no_row_not_even_of_step_0() -> None:
    sink = MemorySink()
    sink.open(run())
    sink.write(0, {"eval/loss": 1.0})
    sink.open(run())
    assert sink.rows == []
