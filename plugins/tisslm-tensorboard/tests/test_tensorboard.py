"""TensorBoard's own reader returns what was written; resumed runs, names of files, errors."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.util import tensor_util
from tisslm_tensorboard import events
from tisslm_tensorboard.sink import TensorBoardSink

from tisslm.contracts import Histogram, RunInfo, Text
from tisslm.errors import ConfigError, DataError
from tisslm.testing import check_sink

Describe = Callable[..., RunInfo]


EVERYTHING = dict.fromkeys(("scalars", "text", "histograms"), 0)


def read(folder: Path) -> Any:
    """Read as TensorBoard's server does."""
    found = plugin_event_accumulator.EventAccumulator(str(folder), tensor_size_guidance=EVERYTHING)
    return found.Reload()


def tensors(folder: Path, name: str) -> list[tuple[int, Any]]:
    return [
        (event.step, tensor_util.make_ndarray(event.tensor_proto).item())
        for event in read(folder).Tensors(name)
    ]


def session(run: RunInfo, steps: range, offset: float = 0.0) -> None:
    sink = TensorBoardSink()
    sink.open(run)
    for step in steps:
        sink.write(step, {"train/loss": step + offset})
    sink.close()


def test_it_keeps_the_contract_of_sinks() -> None:
    assert check_sink(TensorBoardSink).n_assertions > 10


def test_numbers_come_back_as_float32(run: Describe, tmp_path: Path) -> None:
    values = (0.1, 2**53 - 1, np.float32(0.1), -0.0, 1e-40, math.inf, -math.inf, np.int64(7))
    sink = TensorBoardSink()
    sink.open(run())
    for step, value in enumerate(values, 1):
        sink.write(step, {"train/loss": value, 'größe/验证, "q"\n': 1.0})
    sink.write(9, {"train/loss": math.nan})
    sink.close()
    found = tensors(tmp_path, "train/loss")
    assert found[:-1] == [(step, float(np.float32(value))) for step, value in enumerate(values, 1)]
    assert found[-1][0] == 9
    assert math.isnan(found[-1][1])
    assert len(tensors(tmp_path, 'größe/验证, "q"\n')) == len(values)
    scalars = event_accumulator.EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in scalars[:-1]] == found[:-1]


def test_scalars_and_texts_say_which_dashboard_they_belong_to(
    run: Describe, tmp_path: Path
) -> None:
    sink = TensorBoardSink()
    sink.open(run())
    sink.write(3, {"train/loss": 1.0, "sample/1": Text("a < b\n# 東京")})
    sink.close()
    found = read(tmp_path)
    plugins = {n: found.SummaryMetadata(n).plugin_data.plugin_name for n in found.Tags()["tensors"]}
    assert plugins == {"config": "text", "train/loss": "scalars", "sample/1": "text"}
    assert tensors(tmp_path, "sample/1") == [(3, "a < b\n# 東京".encode())]
    assert '"learning_rate": 0.001' in tensors(tmp_path, "config")[0][1].decode()


def test_a_histogram_keeps_its_bins_and_moments(run: Describe, tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=1000)
    histogram = Histogram.of(values, bins=16)
    sink = TensorBoardSink()
    sink.open(run())
    sink.write(5, {"weights/w": histogram})
    sink.close()
    assert read(tmp_path).SummaryMetadata("weights/w").plugin_data.plugin_name == "histograms"
    reader = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    (event,) = reader.Histograms("weights/w")
    found = event.histogram_value
    assert event.step == 5
    assert found.bucket_limit == histogram.edges[1:].tolist()
    assert found.bucket == histogram.counts.tolist()
    assert (found.num, found.sum, found.sum_squares) == (
        1000,
        histogram.total,
        histogram.squares,
    )
    assert (found.min, found.max) == (values.min(), values.max())


def test_a_histogram_is_drawn_between_the_bins_that_have_values() -> None:
    histogram = Histogram(np.array([0, 2, 0, 1, 0]), np.arange(6.0), 5.0, 13.0)
    proto = events.summary_value("w", histogram).histo
    assert (proto.min, proto.max) == (1.0, 4.0)
    assert list(proto.bucket_limit) == histogram.edges.tolist()
    assert list(proto.bucket) == [0.0, 0.0, 2.0, 0.0, 1.0, 0.0]
    empty = Histogram(np.array([0, 0]), np.arange(3.0), 0.0, 0.0)
    assert events.summary_value("w", empty).histo.num == 0


# ------------------------------------------------------------------------------ sessions


def test_a_resumed_run_makes_later_steps_forgotten(run: Describe, tmp_path: Path) -> None:
    session(run(), range(1, 7))
    session(run(resumed_step=4), range(5, 6), offset=0.5)
    session(run(resumed_step=4), range(5, 7), offset=0.25)
    assert len(list(tmp_path.glob("events*"))) == 3
    assert tensors(tmp_path, "train/loss") == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5.25), (6, 6.25)]


def test_a_new_run_in_the_same_directory_stands_alone(run: Describe, tmp_path: Path) -> None:
    session(run(), range(1, 7))
    session(run(), range(1, 3), offset=0.5)
    assert tensors(tmp_path, "train/loss") == [(1, 1.5), (2, 2.5)]


def test_a_file_comes_after_those_that_are_there(tmp_path: Path) -> None:
    for name in ("9999999990.a.1.x", "bad.a.1", "0000000001.b.2", "10000000000000000000000"):
        (tmp_path / f"events.out.tfevents.{name}").touch()
    assert events.file_name(tmp_path).startswith("events.out.tfevents.9999999991.")


def test_what_was_written_can_be_read_at_once(run: Describe, tmp_path: Path) -> None:
    sink = TensorBoardSink(path="tb/events")
    sink.open(run())
    sink.write(1, {"train/loss": 1.0})
    assert tensors(tmp_path / "tb" / "events", "train/loss") == [(1, 1.0)]
    sink.sync()
    sink.close()
    sink.close()


# ------------------------------------------------------------------------------ errors


def test_a_directory_that_cannot_be_written_is_one_sentence(run: Describe, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        TensorBoardSink(path="file").open(run())
    assert str(caught.value) == (
        f"sink tensorboard: {tmp_path / 'file'} cannot be written (File exists); choose another "
        "training.output_dir, or leave the sink out of log.sinks"
    )


def test_a_full_disk_is_one_sentence(
    run: Describe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(28, os.strerror(28))

    sink = TensorBoardSink()
    sink.open(run())
    (path,) = tmp_path.glob("events*")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError) as caught:
        sink.sync()
    assert str(caught.value) == (
        f"sink tensorboard: {path} can no longer be written (No space left on device); make room "
        "on that disk or mend its permissions"
    )
    sink.close()


def test_a_metric_of_another_kind_is_one_sentence(run: Describe) -> None:
    sink = TensorBoardSink()
    sink.open(run())
    with pytest.raises(DataError) as caught:
        sink.write(1, {"a": "x"})
    assert str(caught.value) == (
        "sink tensorboard: metric 'a': expected a real number, a Histogram or a Text, got str; "
        "convert it where the metric is made"
    )
    sink.close()
    with pytest.raises(DataError, match=r"^sink tensorboard: it is not open; call open first$"):
        sink.write(1, {})


@pytest.mark.parametrize("path", ["", 3, None, "a\0b", b"x"])
def test_a_path_that_is_none_is_one_sentence(path: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        TensorBoardSink(path=path)
    assert str(caught.value) == (
        f"sink tensorboard: path: expected a folder relative to the run directory, got {path!r}"
    )
