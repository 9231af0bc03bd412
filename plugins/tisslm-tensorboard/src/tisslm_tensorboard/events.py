"""Numbers, histograms and texts as TensorBoard events (protobuf), and files of them.

Numbers are float32, the form that every reader shows: TensorBoard's data server, the default, finds
no points in series of float64. The file is written by the calling thread; ``EventFileWriter`` of
TensorBoard has a thread of its own, and loads TensorFlow where that is installed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from tisslm.contracts import Histogram, Text
from tisslm.errors import DataError

__all__ = ["EventFile", "file_name", "summary_value"]

#: The part of a name that marks a file of events, for TensorBoard and for ``file_name``.
PREFIX = "events.out.tfevents."

#: The version from which a START event makes TensorBoard drop later steps.
VERSION = "brain.Event:2"


def summary_value(name: str, value: object) -> Any:
    """Return a metric as a ``Summary.Value``.

    Parameters
    ----------
    name : str
    value : real number, Histogram or Text

    Raises
    ------
    DataError
        If the value has another type.
    """
    tag = _utf8(name)
    if isinstance(value, Histogram):
        return summary_pb2.Summary.Value(tag=tag, histo=_histogram(value))
    if isinstance(value, Text):
        tensor = tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING,
            tensor_shape=tensor_shape_pb2.TensorShapeProto(),
            string_val=[_utf8(value.text).encode()],
        )
        return summary_pb2.Summary.Value(tag=tag, metadata=_text_metadata(), tensor=tensor)
    if not isinstance(value, Real):
        raise DataError(
            f"sink tensorboard: metric {name!r}: expected a real number, a Histogram or a Text, "
            f"got {type(value).__name__}; convert it where the metric is made"
        )
    return summary_pb2.Summary.Value(tag=tag, simple_value=float(value))


def _text_metadata() -> Any:
    """Return the metadata that assigns a tensor to the dashboard of texts."""
    return summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text"),
        data_class=summary_pb2.DATA_CLASS_TENSOR,
    )


def _histogram(value: Histogram) -> Any:
    """Return the counts and edges of a histogram without loss, with the least edge as ``min``.

    TensorBoard draws from ``min`` to ``max``. If bins at the ends are empty, these are the edges of
    the bins that are not, and the least edge is the limit of one more empty bin.
    """
    limits = np.asarray(value.edges, dtype=np.float64).tolist()
    counts = [float(count) for count in value.counts]
    filled = np.flatnonzero(value.counts)
    first, last = (filled[0], filled[-1] + 1) if filled.size else (0, len(counts))
    if first > 0:
        counts.insert(0, 0.0)
    return summary_pb2.HistogramProto(
        min=limits[first],
        max=limits[last],
        num=value.count,
        sum=value.total,
        sum_squares=value.squares,
        bucket_limit=limits if first > 0 else limits[1:],
        bucket=counts,
    )


def _utf8(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def file_name(folder: Path) -> str:
    """Return a file name that sorts after those of the existing event files.

    TensorBoard reads the files of a folder in the order of their names, which begin with the second
    in which they were created; the file of a run that is resumed within one second, on another host
    or after a clock was set back must still come last.
    """
    seconds = [int(time.time())]
    for path in folder.glob(f"{PREFIX}*"):
        second = path.name.removeprefix(PREFIX).split(".")[0]
        if second.isdecimal() and len(second) < 12:
            seconds.append(int(second) + 1)
    return f"{PREFIX}{max(seconds):010}.{socket.gethostname()}.{os.getpid()}.tisslm"


class EventFile:
    """A file of events, open for writing.

    Parameters
    ----------
    path : Path
    first_step : int
        The reader drops events of this step and later ones from files that sort before this one.
    """

    def __init__(self, path: Path, first_step: int) -> None:
        self._file = path.open("xb")
        self._records = RecordWriter(self._file)
        source = event_pb2.SourceMetadata(writer="tisslm_tensorboard")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        try:
            self._append(file_version=VERSION, source_metadata=source)
            self._append(step=first_step, session_log=start)
            self._file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                self._file.close()
            raise

    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Append the metrics of a step as one event, and flush it to the system."""
        values = [summary_value(name, value) for name, value in metrics.items()]
        self._append(step=int(step), summary=summary_pb2.Summary(value=values))
        self._file.flush()

    def sync(self) -> None:
        """Wait until the file is on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, **fields: Any) -> None:
        event = event_pb2.Event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())
