"""What the sinks that write files share: numbers as text, and files that go on after a resume."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import IO, Any

import numpy as np

from tisslm.contracts import Histogram, Text
from tisslm.contracts.sink_files import write_error
from tisslm.errors import ConfigError, DataError
from tisslm.system.strict_json import plain_number

__all__ = [
    "file_path",
    "plain_metrics",
    "plain_records",
    "set_aside",
    "sync_file",
]


def plain_metrics(sink: str, metrics: Mapping[str, object]) -> dict[str, int | float | str]:
    """Return metrics as plain numbers; those that are not finite as strings.

    NaN and the infinities become "NaN", "Infinity" and "-Infinity", because JSON has no numbers
    for them; ``float()`` reads them back in Python, ``Number()`` in JavaScript.

    Parameters
    ----------
    sink : str
        Name of the sink, for messages.
    metrics : mapping of str to real number

    Raises
    ------
    DataError
        If a value is no real number, or a metric is called "step".
    """
    if "step" in metrics:
        raise DataError(f"sink {sink}: 'step' is the first field of every line; rename the metric")
    return {name: _plain(sink, name, value) for name, value in metrics.items()}


def plain_records(sink: str, metrics: Mapping[str, object]) -> dict[str, Any]:
    """Return metrics as JSON has them: numbers as ``plain_metrics`` says, others as objects.

    A histogram is ``{"edges": [...], "counts": [...], "total": t, "squares": q}``, a text
    ``{"text": "..."}``.

    Parameters
    ----------
    sink : str
        Name of the sink, for messages.
    metrics : mapping of str to real number, Histogram or Text

    Raises
    ------
    DataError
        If a value is anything else, or a metric is called "step".
    """
    others = {
        name: _record(value)
        for name, value in metrics.items()
        if isinstance(value, Histogram | Text)
    }
    numbers = plain_metrics(sink, {k: v for k, v in metrics.items() if k not in others})
    return {name: others[name] if name in others else numbers[name] for name in metrics}


def _record(value: Histogram | Text) -> dict[str, Any]:
    if isinstance(value, Text):
        return {"text": value.text}
    return {
        "edges": np.asarray(value.edges, dtype=np.float64).tolist(),
        "counts": np.asarray(value.counts, dtype=np.int64).tolist(),
        "total": plain_number(float(value.total)),
        "squares": plain_number(float(value.squares)),
    }


def _plain(sink: str, name: str, value: object) -> int | float | str:
    if isinstance(value, Integral):
        return int(value)
    if not isinstance(value, Real):
        raise DataError(
            f"sink {sink}: metric {name!r}: expected a real number, got "
            f"{type(value).__name__}; give it to a sink that accepts that kind of value"
        )
    return plain_number(float(value))


def file_path(sink: str, path: object) -> str:
    """Return the option ``path`` of a sink, which must be a path that is not empty."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(
            f"sink {sink}: path: expected a path relative to the run directory, got {path!r:.200}"
        )
    return text


def set_aside(path: Path) -> None:
    """Rename a file that a new run would write over: ``metrics.csv`` to ``metrics-1.csv``.

    The number is the first that is free. An empty file, none, and what is no regular file are left
    as they are.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return
    number = 1
    while (free := path.with_stem(f"{path.stem}-{number}")).exists():
        number += 1
    path.rename(free)


def sync_file(sink: str, path: Path, file: IO[bytes] | None) -> None:
    """Wait until an open file is on disk; a pipe or a terminal has nothing to wait for.

    Raises
    ------
    DataError
        If it can no longer be written.
    """
    try:
        if file is not None:
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise write_error(sink, path, error) from None
