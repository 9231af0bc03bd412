"""JsonlSink: a whole line a step, and nothing kept that a resumed run will write again."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.contracts import Histogram, RunInfo, Text
from tisslm.errors import ConfigError, DataError
from tisslm.tracking.sinks.jsonl import JsonlSink


def run(directory: Path, resumed_step: int = 0) -> RunInfo:
    """Describe a run in a directory."""
    return RunInfo(directory=directory, name="test", resumed_step=resumed_step)


def steps(directory: Path) -> list[int]:
    """Return the steps of the file's lines."""
    text = (directory / "metrics.jsonl").read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line)["step"] for line in text.splitlines()]


def test_a_line_is_in_the_file_when_write_returns(tmp_path: Path) -> None:
    sink = JsonlSink()
    sink.open(run(tmp_path))
    sink.write(1, {"train/loss": 4.25, "train/num_input_tokens_seen": 768})
    sink.write(2, {"eval/loss": 4.0})
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"step": 1, "train/loss": 4.25, "train/num_input_tokens_seen": 768}\n'
        '{"step": 2, "eval/loss": 4.0}\n'
    )
    sink.close()
    sink.close()


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    sink = JsonlSink()
    sink.open(run(tmp_path))
    sink.write(3, {"a": np.float32(0.5), "b": np.int32(7), "c": np.float64(0.1)})
    sink.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 3, "a": 0.5, "b": 7, "c": 0.1}\n'


def test_what_is_not_finite_is_a_string_that_float_reads(tmp_path: Path) -> None:
    sink = JsonlSink()
    sink.open(run(tmp_path))
    sink.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": np.float32("nan")})
    sink.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"step": 1, "a": "NaN", "b": "Infinity", "c": "-Infinity", "d": "NaN"}\n'
    assert float(json.loads(text)["c"]) == -math.inf


def test_histograms_and_texts_are_objects(tmp_path: Path) -> None:
    sink = JsonlSink()
    assert sink.accepts == {float, Histogram, Text}
    sink.open(run(tmp_path))
    values = np.array([0.1, 0.25, 1.0])
    narrow = Histogram(np.array([2, 1], np.int32), np.array([0, 0.5, 1], np.float32), math.nan, 1.5)
    sink.write(
        100,
        {
            "weights/w": Histogram.of(values, bins=2),
            "x": 1,
            "sample/0": Text('a "b"\n\udcff'),
            "n": narrow,
        },
    )
    sink.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert list(found) == ["step", "weights/w", "x", "sample/0", "n"]
    assert found["weights/w"] == {
        "edges": [0.1, 0.55, 1.0],
        "counts": [2, 1],
        "total": values.sum(),
        "squares": values @ values,
    }
    assert found["sample/0"] == {"text": 'a "b"\n\udcff'}
    assert found["n"] == {
        "edges": [0.0, 0.5, 1.0],
        "counts": [2, 1],
        "total": "NaN",
        "squares": 1.5,
    }


def test_the_file_may_have_another_name(tmp_path: Path) -> None:
    sink = JsonlSink(path="log.jsonl")
    sink.open(run(tmp_path))
    sink.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["log.jsonl"]


# --------------------------------------------------------------------------- resuming


@settings(deadline=None)  # the machine may be busy
@given(
    lines=st.lists(st.integers(0, 9), max_size=12),
    resumed=st.integers(1, 9),
    cut=st.integers(0, 40),
    rubbish=st.lists(
        st.sampled_from([b"\n", b"\0\0\0\n", b"{}\n", b"[1]\n", b'{"step": "1"}\n', b"\xff\n"]),
        max_size=2,
    ),
)
def test_a_resumed_run_keeps_the_whole_lines_up_to_its_step(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[int],
    resumed: int,
    cut: int,
    rubbish: list[bytes],
) -> None:
    directory = tmp_path_factory.mktemp("run")
    whole = [f'{{"step": {step}, "train/loss": 1.5}}\n'.encode() for step in lines]
    data = b"".join([*rubbish, *whole])
    cut = min(cut, len(b"".join(whole)))
    data = data[: len(data) - cut]
    (directory / "metrics.jsonl").write_bytes(data)
    survivors = b"".join(whole)[: sum(map(len, whole)) - cut].count(b"\n")
    sink = JsonlSink()
    sink.open(run(directory, resumed))
    sink.write(resumed + 1, {"train/loss": 1.0})
    sink.close()
    kept = [step for step in lines[:survivors] if step <= resumed]
    assert steps(directory) == [*kept, resumed + 1]
    assert [entry.name for entry in directory.iterdir()] == ["metrics.jsonl"]


def test_a_resumed_run_without_a_file_begins_one(tmp_path: Path) -> None:
    sink = JsonlSink()
    sink.open(run(tmp_path, 5))
    sink.write(6, {})
    sink.close()
    assert steps(tmp_path) == [6]


def test_a_file_that_fits_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    inode = path.stat().st_ino
    sink = JsonlSink()
    sink.open(run(tmp_path, 1))
    sink.close()
    assert path.stat().st_ino == inode


def test_a_new_run_loses_no_file_of_an_older_one(tmp_path: Path) -> None:
    for text in ("first", "second", "third"):
        sink = JsonlSink()
        sink.open(run(tmp_path))
        sink.close()
        (tmp_path / "metrics.jsonl").write_text(text)
    found = {entry.name: entry.read_text() for entry in tmp_path.iterdir()}
    assert found == {
        "metrics.jsonl": "third",
        "metrics-1.jsonl": "first",
        "metrics-2.jsonl": "second",
    }


# --------------------------------------------------------------------------- errors


def test_a_directory_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "metrics.jsonl"
    for resumed_step in (0, 3):
        with pytest.raises(ConfigError) as error:
            JsonlSink().open(run(tmp_path / "missing", resumed_step))
        assert str(error.value) == (
            f"sink jsonl: {path} cannot be written (No such file or directory); choose another "
            "training.output_dir, or leave the sink out of log.sinks"
        )


def test_a_full_disk_is_one_sentence() -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("this system has no /dev/full")
    sink = JsonlSink(path="full")
    sink.open(run(Path("/dev"), 0))
    with pytest.raises(DataError) as error:
        sink.write(1, {"train/loss": 1.0})
    assert str(error.value) == (
        "sink jsonl: /dev/full can no longer be written (No space left on device); make room on "
        "that disk or mend its permissions"
    )
    sink.close()


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            {"a": "x"},
            "sink jsonl: metric 'a': expected a real number, got str; give it to a sink that "
            "accepts that kind of value",
        ),
        (
            {"step": 1.0},
            "sink jsonl: 'step' is the first field of every line; rename the metric",
        ),
    ],
)
def test_a_metric_that_is_no_number_is_one_sentence(
    tmp_path: Path, metrics: dict[str, object], message: str
) -> None:
    sink = JsonlSink()
    sink.open(run(tmp_path))
    with pytest.raises(DataError) as error:
        sink.write(1, metrics)
    assert str(error.value) == message
    sink.close()
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_writing_before_open_is_one_sentence() -> None:
    with pytest.raises(DataError) as error:
        JsonlSink().write(1, {})
    assert str(error.value) == "sink jsonl: write was called before open; call open first"


@pytest.mark.parametrize("path", ["", 3, None, "a\0b", b"x"])
def test_a_path_that_is_none_is_one_sentence(path: object) -> None:
    with pytest.raises(ConfigError) as error:
        JsonlSink(path=path)  # type: ignore[arg-type]
    assert str(error.value) == (
        f"sink jsonl: path: expected a path relative to the run directory, got {path!r}"
    )
