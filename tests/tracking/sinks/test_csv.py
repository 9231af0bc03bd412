"""CsvSink: a table that stays whole while its header grows, its run stops and goes on."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.contracts import RunInfo
from tisslm.errors import ConfigError, DataError
from tisslm.tracking.sinks.csv import CsvSink


def run(directory: Path, resumed_step: int = 0) -> RunInfo:
    """Describe a run in a directory."""
    return RunInfo(directory=directory, name="test", resumed_step=resumed_step)


def table(directory: Path) -> list[dict[str, str]]:
    """Return the file's rows, without empty cells."""
    with (directory / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert all(None not in row and None not in row.values() for row in rows)
    return [{key: cell for key, cell in row.items() if cell} for row in rows]


def test_a_row_is_in_the_file_when_write_returns(tmp_path: Path) -> None:
    sink = CsvSink()
    sink.open(run(tmp_path))
    sink.write(1, {"train/loss": 4.25, "train/epoch": np.float32(0.5)})
    sink.write(2, {"train/epoch": 1, "train/loss": 4.0})
    assert (tmp_path / "metrics.csv").read_text() == (
        "step,train/loss,train/epoch\n1,4.25,0.5\n2,4.0,1\n"
    )
    sink.close()
    sink.close()


def test_the_header_grows_when_a_metric_is_new(tmp_path: Path) -> None:
    sink = CsvSink()
    sink.open(run(tmp_path))
    sink.write(1, {"a": 1.0})
    sink.write(2, {"b": 2.0})
    sink.write(3, {"a": 3.0})
    sink.close()
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b\n1,1.0,\n2,,2.0\n3,3.0,\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.csv"]


def test_what_is_not_finite_is_spelled_as_float_reads_it(tmp_path: Path) -> None:
    sink = CsvSink()
    sink.open(run(tmp_path))
    sink.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf})
    sink.close()
    assert table(tmp_path) == [{"step": "1", "a": "NaN", "b": "Infinity", "c": "-Infinity"}]


NAMES = st.one_of(
    st.sampled_from(["a", "b", "train/loss", 'quo"te', "com,ma", "line\nfeed", "\u2028", "\r", ""]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
).filter(lambda name: name != "step")
ROWS = st.lists(st.dictionaries(NAMES, st.integers(0, 99), max_size=3), max_size=6)


@settings(deadline=None)  # the machine may be busy
@given(ROWS, st.integers(1, 6), st.integers(0, 9))
def test_a_resumed_run_keeps_the_whole_rows_up_to_its_step(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, int]],
    resumed: int,
    cut: int,
) -> None:
    directory = tmp_path_factory.mktemp("run")
    path = directory / "metrics.csv"
    sink = CsvSink()
    sink.open(run(directory))
    for step, row in enumerate(rows, start=1):
        sink.write(step, row)
    sink.close()
    whole = path.read_bytes()
    last = len(whole.rstrip(b"\n")) - max(0, whole.rstrip(b"\n").rfind(b"\n") + 1)
    cut = min(cut, last) if len(rows) > 1 else 0  # within the last row
    path.write_bytes(whole[: len(whole) - cut])
    sink.open(run(directory, resumed))
    sink.write(7, {"a": 1, "late": 2})
    sink.close()
    kept = [
        {"step": str(step)} | {name: str(value) for name, value in row.items()}
        for step, row in enumerate(rows[: len(rows) - bool(cut)], start=1)
        if step <= resumed
    ]
    assert table(directory) == [*kept, {"step": "7", "a": "1", "late": "2"}]
    assert [entry.name for entry in directory.iterdir()] == ["metrics.csv"]


def test_a_file_of_somebody_else_is_set_aside(tmp_path: Path) -> None:
    for text in ("name,age\nx,1\n", "\0" * 8 + "\n", "step", f"{'x' * 200_000}\n"):
        (tmp_path / "metrics.csv").write_text(text)
        sink = CsvSink()
        sink.open(run(tmp_path, 5))
        sink.write(6, {"a": 1})
        sink.close()
        assert table(tmp_path) == [{"step": "6", "a": "1"}]
        (kept,) = tmp_path.glob("metrics-*.csv")
        assert kept.read_text() == text
        kept.unlink()


def test_a_new_run_loses_no_file_of_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,a\n1,2\n")
    sink = CsvSink()
    sink.open(run(tmp_path))
    sink.write(1, {"b": 3})
    sink.close()
    assert (tmp_path / "metrics-1.csv").read_text() == "step,a\n1,2\n"
    assert table(tmp_path) == [{"step": "1", "b": "3"}]


def test_a_growth_that_fails_leaves_the_old_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = CsvSink()
    sink.open(run(tmp_path))
    sink.write(1, {"a": 1})

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DataError) as error:
        sink.write(2, {"b": 1})
    assert str(error.value) == (
        f"sink csv: {tmp_path / 'metrics.csv'} can no longer be written (No space left on "
        "device); make room on that disk or mend its permissions"
    )
    sink.close()
    assert (tmp_path / "metrics.csv").read_text() == "step,a\n1,1\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_directory_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        CsvSink().open(run(tmp_path / "missing"))
    assert str(error.value) == (
        f"sink csv: {tmp_path / 'missing' / 'metrics.csv'} cannot be written (No such file or "
        "directory); choose another training.output_dir, or leave the sink out of log.sinks"
    )


def test_a_metric_that_is_no_number_is_one_sentence(tmp_path: Path) -> None:
    sink = CsvSink()
    sink.open(run(tmp_path))
    with pytest.raises(DataError) as error:
        sink.write(1, {"a": [1.0]})
    assert str(error.value) == (
        "sink csv: metric 'a': expected a real number, got list; give it to a sink that accepts "
        "that kind of value"
    )
    sink.close()


def test_writing_before_open_is_one_sentence() -> None:
    with pytest.raises(DataError) as error:
        CsvSink().write(1, {})
    assert str(error.value) == "sink csv: write was called before open; call open first"


def test_a_step_of_thousands_of_digits_is_no_row_of_ours(tmp_path):
    (tmp_path / "metrics.csv").write_text(f"step,a\n1,2\n{'9' * 5000},3\n")
    sink = CsvSink()
    sink.open(RunInfo(directory=tmp_path, name="run", config={}, rank=0, resumed_step=1))
    sink.close()
    assert (tmp_path / "metrics.csv").read_text() == "step,a\n1,2\n"
