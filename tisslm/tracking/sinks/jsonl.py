"""The sink ``jsonl``: one JSON object a line, in the run directory.

What does not live here: reading the lines (``metric_lines``).

References
----------
JSON Lines, https://jsonlines.org
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, final

from tisslm.contracts import Histogram, RunInfo, Sink, Text
from tisslm.contracts.sink_files import open_error, write_error
from tisslm.errors import DataError
from tisslm.system.durable import replacing
from tisslm.system.safe_files import Refusal, RegularFile, open_to_append
from tisslm.tracking.metric_lines import LineCutter, parse_record
from tisslm.tracking.sinks._records import (
    file_path,
    plain_records,
    set_aside,
    sync_file,
)

__all__ = ["JsonlSink"]

#: A line that a reader of the file would pass over is not gone on with.
_DROPPED = Refusal(DataError, "dropped", "the other lines are kept")

_REFUSAL = Refusal(DataError, "the sink jsonl cannot read its lines again", "mend the file")


@final
class JsonlSink(Sink):
    """Write each step's metrics as one line of JSON, ``step`` first.

    A line is on its way to the disk when ``write`` returns. A run that resumes at step s drops
    the lines of later steps and what is no whole line; a new run in a directory that has such a
    file renames it (``metrics-1.jsonl``) first, unless it is the same run, killed before its first
    checkpoint. NaN and the infinities are the strings "NaN",
    "Infinity" and "-Infinity", which JSON has no numbers for. A histogram and a text are objects.

    Parameters
    ----------
    path : str or path, default "metrics.jsonl"
        The path of a file, or of a FIFO that somebody reads from, relative to the run directory.

    Examples
    --------
    A line::

        {"step": 1, "train/loss": 4.17, "train/learning_rate": 1e-05}

    A histogram and a text::

        {"step": 100, "weights/w": {"edges": [0.0, 0.5, 1.0], "counts": [2, 1], "total": 1.1,
         "squares": 0.73}, "sample/0": {"text": "Once upon a time"}}
    """

    accepts = frozenset({float, Histogram, Text})

    def __init__(self, *, path: str | os.PathLike[str] = "metrics.jsonl") -> None:
        self._name = file_path("jsonl", path)
        self._path = Path()
        self._file: IO[bytes] | None = None

    def open(self, run: RunInfo) -> None:
        """Go on with the file of a resumed run, or begin one.

        Raises
        ------
        ConfigError
            If the file cannot be written, or is a FIFO that nobody reads from.
        DataError
            If the file of a resumed run cannot be read.
        """
        self.close()
        self._path = run.directory / self._name
        try:
            if run.goes_on:
                _drop_after(self._path, run.resumed_step)
            else:
                set_aside(self._path)
            self._file = open_to_append(self._path, regular=False)
        except OSError as error:
            raise open_error("jsonl", self._path, error) from None

    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Append one line.

        Raises
        ------
        DataError
            If a metric is none of the kinds above, or the file can no longer be written.
        """
        if self._file is None:
            raise DataError("sink jsonl: write was called before open; call open first")
        line = json.dumps({"step": int(step), **plain_records("jsonl", metrics)}, allow_nan=False)
        try:
            self._file.write(f"{line}\n".encode())
            self._file.flush()
        except OSError as error:
            raise write_error("jsonl", self._path, error) from None

    def sync(self) -> None:
        """Wait until the file is on disk.

        Raises
        ------
        DataError
            If it can no longer be written.
        """
        sync_file("jsonl", self._path, self._file)

    def close(self) -> None:
        """Close the file; nothing is left to be written."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # write has reported it
                self._file.close()
            self._file = None


def _drop_after(path: Path, last: int) -> None:
    """Keep the whole lines of steps up to ``last``; what is no regular file keeps nothing."""
    if not path.is_file():
        return
    with RegularFile(path, _REFUSAL, follow=True) as file:
        if all(line is not None for line in _kept(file, last)):
            return
        with replacing(path) as new:
            new.writelines(line + b"\n" for line in _kept(file, last) if line is not None)


def _kept(file: RegularFile, last: int) -> Iterator[bytearray | None]:
    """Yield the lines of a file, and None in the place of each that is not kept."""
    cutter = LineCutter()
    for line in cutter.lines(file.blocks()):
        yield line if line is not None and _is_kept(line, last) else None
    if cutter.rest or cutter.too_long:
        yield None


def _is_kept(line: bytearray, last: int) -> bool:
    try:
        return parse_record(line, "metrics", _DROPPED)[0] <= last
    except DataError:
        return False
