"""A file mapped into memory, and the check that it is still the file that was mapped.

What does not live here: what the bytes mean.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.datasets.sources.streams import open_regular
from tisslm.errors import DataError

__all__ = ["MappedFile"]


class MappedFile:
    """A file whose pages are read when they are needed.

    A file that another process cuts short ends the process that reads beyond its new end
    (SIGBUS), and no exception can tell of it. So the file stays open, and ``check`` compares its
    size and time of change with those at the start; a dataset asks at each epoch's start. A file
    that is replaced by rename stays as it was for whoever has it open.

    Parameters
    ----------
    path : Path

    Raises
    ------
    DataError
        If the file is missing, no regular file, empty, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_regular(path) as file:
                self._file = os.dup(file.fileno())
                self.size = os.fstat(self._file).st_size
                if not self.size:
                    raise DataError(f"{path}: expected token ids, got an empty file")
                self._map = mmap.mmap(self._file, self.size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
            ) from error
        self._changed = os.fstat(self._file).st_mtime_ns

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def array(self, dtype: str, offset: int = 0, count: int = -1) -> NDArray[Any]:
        """Return a read-only view of the bytes from ``offset`` on; nothing is read."""
        return np.frombuffer(self._map, dtype=dtype, offset=offset, count=count)

    def check(self) -> None:
        """Raise ``DataError`` if the file was changed since it was opened."""
        now = os.fstat(self._file)
        if now.st_size != self.size:
            raise DataError(
                f"{self.path}: expected {self.size} bytes as when it was opened, got "
                f"{now.st_size}; do not write a file that a run reads, replace it by rename"
            )
        if now.st_mtime_ns != self._changed:
            raise DataError(
                f"{self.path}: was written since it was opened; do not write a file that a run "
                "reads, replace it by rename"
            )
