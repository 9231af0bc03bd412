"""The sink ``csv``: one row a step, one column a metric, in the run directory.

References
----------
RFC 4180, https://www.rfc-editor.org/rfc/rfc4180 (with line feeds alone)
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, final

from tisslm.contracts import RunInfo, Sink
from tisslm.contracts.sink_files import open_error, write_error
from tisslm.errors import DataError
from tisslm.system.durable import replacing
from tisslm.system.safe_files import Refusal, RegularFile, open_to_append
from tisslm.tracking.sinks._records import (
    file_path,
    plain_metrics,
    set_aside,
    sync_file,
)

__all__ = ["CsvSink"]

_STEP = re.compile(r"[0-9]{1,18}")  # Python refuses to read a number of thousands of digits

#: The file is read again to grow its header, and when a run goes on.
_REFUSAL = Refusal(DataError, "the sink csv cannot read its rows again", "mend the file")


@final
class CsvSink(Sink):
    """Write each step's metrics as one row; the header grows when a metric is new.

    A row is on its way to the disk when ``write`` returns. To grow the header, the file is
    written anew beside the old one and takes its place in one go; older rows get empty cells. A
    run that resumes at step s drops the rows of later steps and what is no whole row; a new run
    in a directory that has such a file renames it (``metrics-1.csv``) first, unless it is the same
    run, killed before its first checkpoint. NaN and the
    infinities are "NaN", "Infinity" and "-Infinity".

    Parameters
    ----------
    path : str or path, default "metrics.csv"
        The path of a regular file, relative to the run directory.
    """

    def __init__(self, *, path: str | os.PathLike[str] = "metrics.csv") -> None:
        self._name = file_path("csv", path)
        self._path = Path()
        self._columns: list[str] = []
        self._file: IO[bytes] | None = None

    def open(self, run: RunInfo) -> None:
        """Go on with the file of a resumed run, or begin one.

        Raises
        ------
        ConfigError
            If the file cannot be written, or is no regular file.
        DataError
            If the file of a resumed run cannot be read.
        """
        self.close()
        self._path, self._columns = run.directory / self._name, []
        try:
            if run.goes_on:
                self._columns = _drop_after(self._path, run.resumed_step)
            if not self._columns:
                set_aside(self._path)
            self._file = open_to_append(self._path)
        except OSError as error:
            raise open_error("csv", self._path, error) from None

    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Append one row, after growing the header if a metric is new.

        Raises
        ------
        DataError
            If a metric is no real number, or the file can no longer be written.
        """
        if self._file is None:
            raise DataError("sink csv: write was called before open; call open first")
        values = {"step": int(step), **plain_metrics("csv", metrics)}
        new = [name for name in values if name not in self._columns]
        try:
            if new:
                self._grow(new)
            self._file.write(_line(values.get(name, "") for name in self._columns))
            self._file.flush()
        except OSError as error:
            raise write_error("csv", self._path, error) from None

    def sync(self) -> None:
        """Wait until the file is on disk.

        Raises
        ------
        DataError
            If it can no longer be written.
        """
        sync_file("csv", self._path, self._file)

    def close(self) -> None:
        """Close the file; nothing is left to be written."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # write has reported it
                self._file.close()
            self._file = None

    def _grow(self, new: Sequence[str]) -> None:
        """Add columns to the header, and empty cells to every row."""
        rows = _whole_rows(self._path)[1:]
        columns = [*self._columns, *new]
        with replacing(self._path) as file:
            file.write(_line(columns))
            file.writelines(_line([*row, *("" for _ in new)]) for row in rows)
        self.close()
        self._file = open_to_append(self._path)
        self._columns = columns


def _line(cells: Iterable[object]) -> bytes:
    return f"{','.join(map(_cell, cells))}\n".encode(errors="backslashreplace")


def _cell(value: object) -> str:
    """Return a cell, quoted where it must be; ``csv.writer`` forgets carriage returns."""
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set('",\r\n') else text


def _whole_rows(path: Path) -> list[list[str]]:
    """Return header and rows, without an unfinished last line and rows that do not fit."""
    with RegularFile(path, _REFUSAL, follow=True) as file:
        text = b"".join(file.blocks()).decode(errors="replace")
    *lines, _unfinished = text.split("\n")
    try:
        rows = list(csv.reader(f"{line}\n" for line in lines))
    except csv.Error:  # no table at all
        return []
    return [row for row in rows if len(row) == len(rows[0])]


def _drop_after(path: Path, last: int) -> list[str]:
    """Keep the rows of steps up to ``last``, and return the header; [] if it is none of ours."""
    rows = _whole_rows(path) if path.is_file() else []
    if not rows or rows[0][:1] != ["step"]:
        return []
    kept = [row for row in rows[1:] if _STEP.fullmatch(row[0]) and int(row[0]) <= last]
    with replacing(path) as file:
        file.writelines(_line(row) for row in [rows[0], *kept])
    return rows[0]
