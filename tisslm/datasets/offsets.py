"""The offsets of documents in a file, each looked up with one read."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.datasets.joined import SpanArray

__all__ = ["SCAN_OFFSETS", "FileOffsets", "offsets_in"]

#: Offsets that are checked at a time, so that a table is never held whole.
SCAN_OFFSETS = 2**20

#: Distance of the offsets that are kept in memory: 4 KiB of the file.
STRIDE = 512


@final
class FileOffsets:
    """Ascending int64 numbers in a file, with the interface of a sorted array.

    Every 512th number is kept in memory, so that a look-up reads only the numbers between two of
    them.

    Parameters
    ----------
    numbers : SpanArray of int64
        The numbers; they are read once here.
    """

    ndim = 1
    dtype = np.dtype(np.int64)

    def __init__(self, numbers: SpanArray) -> None:
        self._numbers = numbers
        parts = range(0, len(numbers), SCAN_OFFSETS)
        marks = [numbers[start : start + SCAN_OFFSETS][::STRIDE] for start in parts]
        self._marks: NDArray[np.int64] = np.concatenate([np.empty(0, np.int64), *marks])

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def shape(self) -> tuple[int]:
        """The length, as a tuple."""
        return (len(self),)

    @property
    def nbytes(self) -> int:
        """The bytes in memory."""
        return self._marks.nbytes

    def __getitem__(self, part: int | slice) -> Any:
        """Read one number, or a slice."""
        if isinstance(part, slice):
            return self._numbers[part]
        place = range(len(self))[part]
        return self._numbers[place : place + 1][0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all numbers."""
        return np.asarray(self._numbers[:], dtype)

    def searchsorted(self, value: float) -> int:
        """Return how many numbers are below ``value``."""
        block = int(self._marks.searchsorted(value))
        if not block:
            return 0
        start = (block - 1) * STRIDE
        return start + int(self._numbers[start : start + STRIDE].searchsorted(value))

    def within(self, begin: int, end: int) -> NDArray[np.int64]:
        """Return the numbers that are in ``range(begin, end)``."""
        first, last = self._marks.searchsorted((begin, end)).tolist()
        return offsets_in(self._numbers[max(first - 1, 0) * STRIDE : last * STRIDE], begin, end)


def offsets_in(offsets: NDArray[np.int64] | FileOffsets, begin: int, end: int) -> NDArray[np.int64]:
    """Return the offsets that are in ``range(begin, end)``."""
    if isinstance(offsets, FileOffsets):
        return offsets.within(begin, end)
    first, last = offsets.searchsorted((begin, end)).tolist()
    return offsets[first:last]
