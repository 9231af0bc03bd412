"""Lines of metrics are whole and within limits for every reader: report, tail, replay, sink."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.contracts import RunInfo
from tisslm.tracking import metric_lines
from tisslm.tracking.metric_lines import LineCutter
from tisslm.tracking.report.records import Problems, read_metrics
from tisslm.tracking.sinks.jsonl import JsonlSink
from tisslm.tracking.terminal.tail import Tail
from tisslm.workflows.replay.record import read_record

LIMIT = 64


def of_report(path: Path) -> list[int]:
    return [int(x) for x in read_metrics(path, Problems()).scalars["train/loss"].x]


def of_tail(path: Path) -> list[int]:
    return [step for step, _ in Tail(path).read()]


def of_replay(path: Path) -> list[int]:
    return list(read_record(path, path.parent / "none", 0, 99).losses)


def of_sink(path: Path) -> list[int]:
    sink = JsonlSink(path=path.name)
    sink.open(RunInfo(path.parent, "x", resumed_step=99))
    sink.close()
    return of_tail(path)


@pytest.mark.parametrize("steps_of", [of_report, of_tail, of_replay, of_sink])
@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(b"x" * LIMIT + b'{"step": 2, "train/loss": 2.0}\n', id="longer than a line"),
        pytest.param(b'{"step": 2, "train/loss": 2.0, "step": 2}\n', id="a key twice"),
        pytest.param(b'{"step": true, "train/loss": 2.0}\n', id="no step"),
        pytest.param(b'{"step": 2, "train/loss": NaN}\n', id="no JSON"),
        pytest.param(b"[2, 2.0]\n", id="no object"),
    ],
)
def test_every_reader_passes_over_the_same_lines(tmp_path, monkeypatch, steps_of, damaged) -> None:
    monkeypatch.setattr(metric_lines, "LONGEST_LINE", LIMIT)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 1, "train/loss": 1.5}\n'
        + damaged
        + b'{"step": 3, "train/loss": 1.5}\n{"step": 4, "train/loss": 1.5}'
    )
    assert steps_of(path) == [1, 3]


@given(st.lists(st.binary(max_size=12)), st.integers(0, 9))
def test_a_cutter_gives_the_lines_of_the_whole(blocks: list[bytes], longest: int) -> None:
    cutter = LineCutter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metric_lines, "LONGEST_LINE", longest)
        found = list(cutter.lines(blocks))
    *whole, rest = b"".join(blocks).split(b"\n")
    assert found == [line if len(line) <= longest else None for line in whole]
    assert cutter.too_long == (len(rest) > longest)
    assert cutter.rest == (b"" if cutter.too_long else rest)


def test_a_replay_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    assert of_replay(tmp_path / "metrics.jsonl") == []


def test_a_resumed_run_does_not_read_the_pipe_that_it_writes_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    sink = JsonlSink(path="pipe")
    sink.open(RunInfo(tmp_path, "x", resumed_step=3))
    sink.write(4, {})
    sink.close()
    assert os.read(reader, 100) == b'{"step": 4}\n'
    os.close(reader)
