"""Reading metrics as they are written: pieces, damage, files that are cut or replaced."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.contracts import RunInfo
from tisslm.contracts.metric_values import Text
from tisslm.errors import DataError
from tisslm.system import safe_files
from tisslm.tracking import metric_lines
from tisslm.tracking.sinks.jsonl import JsonlSink
from tisslm.tracking.terminal.tail import Tail


def records(tail: Tail) -> list:
    return [(step, dict(metrics)) for step, metrics in tail.read()]


def test_what_the_sink_writes_comes_back_but_for_histograms(tmp_path: Path) -> None:
    sink, tail = JsonlSink(), Tail(tmp_path / "metrics.jsonl")
    assert records(tail) == []
    sink.open(RunInfo(tmp_path, "x"))
    sink.write(1, {"train/loss": 1.5, "n": 3})
    assert records(tail) == [(1, {"train/loss": 1.5, "n": 3.0})]
    assert tail.anew
    assert records(tail) == []
    assert not tail.anew
    sink.write(2, {"a": math.inf, "b": -math.inf})
    sink.write(3, {"c": math.nan})
    (second, (step, third)) = records(tail)
    assert second == (2, {"a": math.inf, "b": -math.inf})
    assert step == 3
    assert math.isnan(third["c"])
    sink.close()


def test_texts_are_read_and_histograms_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    histogram = {"edges": [0, 1], "counts": [3], "total": 1.0, "squares": 1.0}
    line = {"step": 4, "sample/0": {"text": "To be\n"}, "weights/x": histogram}
    path.write_text(json.dumps(line) + "\n")
    assert records(Tail(path)) == [(4, {"sample/0": Text("To be\n")})]


@given(st.lists(st.integers(1, 40), max_size=30))
def test_lines_may_come_in_any_pieces(cuts: list[int]) -> None:
    import tempfile

    whole = b"".join(b'{"step": %d, "train/loss": 2.5}\n' % step for step in range(1, 30))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metrics.jsonl")
        tail, found, place = Tail(path), [], 0
        for cut in [*cuts, len(whole)]:
            with path.open("ab") as file:
                file.write(whole[place : place + cut])
            place += cut
            found += records(tail)
        assert found == [(step, {"train/loss": 2.5}) for step in range(1, 30)]
        assert tail.damaged == 0


def test_a_run_that_goes_on_from_before_is_read_anew(tmp_path: Path) -> None:
    sink, tail = JsonlSink(), Tail(tmp_path / "metrics.jsonl")
    sink.open(RunInfo(tmp_path, "x"))
    for step in range(1, 6):
        sink.write(step, {"a": float(step)})
    assert len(records(tail)) == 5
    sink.open(RunInfo(tmp_path, "x", resumed_step=3))
    sink.write(4, {"a": 40.0})
    assert records(tail) == [(1, {"a": 1.0}), (2, {"a": 2.0}), (3, {"a": 3.0}), (4, {"a": 40.0})]
    assert tail.anew
    sink.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 7}\n')  # cut in place
    assert records(tail) == [(1, {"a": 7.0})]


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[1, 2]",
        b'{"train/loss": 1.0}',
        b'{"step": -1, "a": 1}',
        b'{"step": true, "a": 1}',
        b'{"step": 1.5, "a": 1}',
        b'{"step": 1' + b"0" * 400 + b"}",
        b'{"step": 1, "step": 2}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"step": 1, "a": NaN}',
    ],
    ids=lambda line: line[:20].decode("latin-1"),
)
def test_a_damaged_line_is_counted_and_the_next_one_read(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line + b'\n\n{"step": 7, "a": 1}\n')
    tail = Tail(path)
    assert records(tail) == [(7, {"a": 1.0})]
    assert tail.damaged == 1


def test_numbers_beyond_float_and_other_values_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    damaged = b'{"step": 6, "a": 1' + b"0" * 400 + b"}\n"
    path.write_bytes(damaged + b'{"step": 7, "b": "x", "c": null, "d": true}\n')
    tail = Tail(path)
    assert records(tail) == [(7, {})]
    assert tail.damaged == 1


def test_a_line_without_end_takes_no_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(metric_lines, "LONGEST_LINE", 1000)
    monkeypatch.setattr(safe_files, "_BLOCK", 300)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"x" * 5000 + b'\n{"step": 7, "a": 1}\n')
    tail = Tail(path)
    assert records(tail) == [(7, {"a": 1.0})]
    assert tail.damaged == 1
    assert len(tail._cutter.rest) <= 1000


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    os.mkfifo(path)
    with pytest.raises(DataError) as caught:
        list(Tail(path).read())
    assert str(caught.value) == (
        f"{path}: the metrics cannot be read (expected a regular file, got a FIFO); "
        "mend the file or name another run"
    )
