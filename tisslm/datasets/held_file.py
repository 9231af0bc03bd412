"""Arrays in files that are kept open; each slice is read from disk when it is accessed.

Nothing is mapped. If another process truncates a mapped file, an access beyond the new end kills
the process (SIGBUS), and no exception can tell of it; a read raises one.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tisslm.datasets.joined import bounds
from tisslm.errors import DataError, TissLMError
from tisslm.system.safe_files import Refusal, RegularFile

__all__ = ["FileArray", "HeldFile", "HeldFiles", "unmapped"]

UNREADABLE = Refusal(DataError, "cannot be read", "check the path and its permissions")


@final
class HeldFile:
    """A file that is read repeatedly, and must stay as it was when it was opened.

    It is kept open, so a file that is replaced by rename, or deleted, can still be read unchanged.
    Size and modification time are compared after every read, so that what was read is what the file
    had at the start.

    Parameters
    ----------
    path : Path
    refusal : Refusal
        Makes the exception for a file that cannot be opened or read.

    Attributes
    ----------
    path : Path
    size : int
        Bytes.

    Raises
    ------
    TissLMError
        If the file is missing, no regular file, or cannot be opened; ``refusal`` decides which.
    """

    def __init__(self, path: Path, refusal: Refusal = UNREADABLE) -> None:
        self.path = path
        self._file = RegularFile(path, refusal, follow=True)
        self.size = self._file.size
        self._changed = self._file.status().st_mtime_ns

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with the bytes from ``offset`` on.

        Raises
        ------
        DataError
            If the file was changed since it was opened, or cannot be read.
        """
        try:
            self._file.read_into(buffer, offset)
        finally:  # that it was cut says more than that it ended too soon
            self.check()

    def check(self) -> None:
        """Raise ``DataError`` if the file was changed since it was opened."""
        now = self._file.status()
        if now.st_size != self.size:
            what = f"expected {self.size} bytes as when it was opened, got {now.st_size}"
        elif now.st_mtime_ns != self._changed:
            what = "was written since it was opened"
        else:
            return
        raise DataError(
            f"{self.path}: {what}; do not write a file that a run reads, replace it by rename"
        ) from None


@final
class HeldFiles:
    """Several files that must stay as they were when they were opened.

    Parameters
    ----------
    files : sequence of HeldFile
    """

    def __init__(self, files: Sequence[HeldFile]) -> None:
        self._files = files

    def check(self) -> None:
        """Raise ``DataError`` if a file was changed since it was opened."""
        for file in self._files:
            file.check()


@final
class FileArray:
    """A flat array of numbers in a file; a ``SpanArray``.

    Parameters
    ----------
    file : HeldFile
    dtype : dtype
    offset : int
        Bytes before the first number.
    length : int, optional
        How many numbers; by default, all that follow.
    """

    ndim = 1
    #: Bytes in memory.
    nbytes = 0

    def __init__(
        self, file: HeldFile, dtype: DTypeLike, offset: int = 0, length: int | None = None
    ) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._file, self._offset = file, offset
        left = (file.size - offset) // self.dtype.itemsize
        self._length = max(0, left) if length is None else length

    def __len__(self) -> int:
        return self._length

    @property
    def shape(self) -> tuple[int]:
        """The length, as a tuple."""
        return (self._length,)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Read a span.

        Raises
        ------
        DataError
            If the file was changed since it was opened, or cannot be read.
        """
        start, stop = bounds(part, self._length)
        found = np.empty(stop - start, self.dtype)
        if found.size:
            place = self._offset + start * self.dtype.itemsize
            self._file.read_into(found.view(np.uint8).data, place)
        return found

    def span(self, start: int, stop: int) -> Self:
        """Return a slice of any length, without reading it."""
        start, stop = bounds(slice(start, stop), self._length)
        offset = self._offset + start * self.dtype.itemsize
        return type(self)(self._file, self.dtype, offset, stop - start)


#: How many numbers at each end are compared to tell whether a name still leads to the mapped file.
COMPARED = 2**12


def unmapped(array: Any) -> NDArray[Any] | FileArray:
    """Turn a read-only ``numpy.memmap`` into an array that is read from the same file.

    Anything else is returned as an array, and so is a map whose file has been renamed.
    """
    plain = np.asarray(array)
    if not isinstance(array, np.memmap) or array.mode != "r" or not array.filename:
        return plain
    if array.ndim != 1 or not array.flags.c_contiguous:
        return plain
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    begin = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    begin += _address(array) - _address(np.frombuffer(owner, np.uint8))
    try:
        found = FileArray(HeldFile(Path(array.filename)), array.dtype, begin, len(array))
        ends = (slice(0, COMPARED), slice(max(0, len(array) - COMPARED), len(array)))
        same = all(np.array_equal(found[part], plain[part]) for part in ends)
    except TissLMError:
        return plain
    return found if same else plain


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
