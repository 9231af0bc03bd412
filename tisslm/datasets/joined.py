"""Flat arrays that are read slice by slice and never held whole: joined arrays, and bits."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import ShapeError

__all__ = ["BitArray", "JoinedArray", "SpanArray"]


@runtime_checkable
class SpanArray(Protocol):
    """A flat array that is too large, or too scattered, to be an ndarray.

    ``array[a:b]`` is an ndarray of the elements a to b - 1; ``span(a, b)`` is the same slice
    without reading it.
    """

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The length, as a tuple."""

    @property
    def ndim(self) -> int:
        """The number of dimensions, 1."""

    @property
    def nbytes(self) -> int:
        """The bytes that it takes in memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice) -> NDArray[Any]: ...

    def span(self, start: int, stop: int) -> SpanArray:
        """Return the slice from start to stop - 1 without reading it."""


def span(array: NDArray[Any] | SpanArray, start: int, stop: int) -> Any:
    """Return a slice of an array without reading it."""
    return array.span(start, stop) if isinstance(array, SpanArray) else array[start:stop]


def bounds(part: slice, length: int) -> tuple[int, int]:
    """Return start and stop of a slice, which must go forward by ones."""
    if not isinstance(part, slice):
        raise ShapeError(f"expected a slice of an array in files, got {part!r}; read it in spans")
    start, stop, step = part.indices(length)
    if step != 1:
        raise ShapeError(f"expected a slice of step 1, got {step}; read a span and then take steps")
    return start, max(start, stop)


class JoinedArray:
    """Flat arrays of one type, joined to one array without copying.

    Parameters
    ----------
    parts : sequence of ndarray or SpanArray of shape (n_i,)
        The arrays to join, all of one type, in memory or in files; not copied.
    """

    def __init__(self, parts: Sequence[NDArray[Any] | SpanArray]) -> None:
        self.dtype = parts[0].dtype
        if any(part.dtype != self.dtype or part.ndim != 1 for part in parts):
            raise ShapeError("expected flat arrays of one type to join")
        self._parts = list(parts)
        self.ndim = 1
        self._starts = [0]
        for part in parts:
            self._starts.append(self._starts[-1] + len(part))

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def shape(self) -> tuple[int]:
        """The length, as a tuple."""
        return (len(self),)

    @property
    def nbytes(self) -> int:
        """The bytes of the arrays that are in memory."""
        return sum(part.nbytes for part in self._parts)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Return a slice: a view if it lies within one of the arrays, else a copy."""
        found = [part[a:b] for part, a, b in self._cuts(*bounds(part, len(self)))]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def span(self, start: int, stop: int) -> JoinedArray:
        """Return a slice of any length, without reading it."""
        cuts = self._cuts(*bounds(slice(start, stop), len(self)))
        return JoinedArray([span(part, a, b) for part, a, b in cuts])

    def _cuts(self, start: int, stop: int) -> list[tuple[NDArray[Any] | SpanArray, int, int]]:
        """Return the arrays that a slice touches, each with the bounds of the slice in it."""
        first = min(bisect_right(self._starts, start), len(self._parts)) - 1
        cuts: list[tuple[NDArray[Any] | SpanArray, int, int]] = []
        for number in range(first, len(self._parts)):
            part, begin = self._parts[number], self._starts[number]
            if begin >= stop and cuts:
                break
            cuts.append((part, max(start - begin, 0), max(min(stop - begin, len(part)), 0)))
        return cuts


class BitArray:
    """An array of booleans that are stored as bits, the lowest bit of a byte first.

    Parameters
    ----------
    packed : uint8 array or SpanArray of shape (ceil(n / 8),)
        The bytes, in memory or in a file; not copied.
    start, stop : int
        The range of bits.
    """

    dtype = np.dtype(bool)
    ndim = 1

    def __init__(self, packed: NDArray[np.uint8] | SpanArray, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= 8 * len(packed):
            raise ShapeError(f"expected bits of range({8 * len(packed)}), got {start} to {stop}")
        self._packed, self._start, self._stop = packed, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def shape(self) -> tuple[int]:
        """The length, as a tuple."""
        return (len(self),)

    @property
    def nbytes(self) -> int:
        """The bytes in memory; 0 if the bits are in a file."""
        return self._packed.nbytes

    def __getitem__(self, part: slice) -> NDArray[np.bool_]:
        """Return a slice as a new bool array."""
        start, stop = (self._start + place for place in bounds(part, len(self)))
        first = start // 8
        bits = np.unpackbits(self._packed[first : -(-stop // 8)], bitorder="little")
        return bits[start - 8 * first : stop - 8 * first].view(bool)

    def span(self, start: int, stop: int) -> BitArray:
        """Return a slice of any length, without reading it."""
        start, stop = bounds(slice(start, stop), len(self))
        return BitArray(self._packed, self._start + start, self._start + stop)
