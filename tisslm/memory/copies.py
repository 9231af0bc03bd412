"""A copy of many arrays in a block of its own, made by several threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.memory.arenas import ALIGNMENT, Arena, aligned

__all__ = ["ArrayCopy", "copy_bytes"]

Array = NDArray[Any]
Key = TypeVar("Key", bound=Hashable)

#: Least and most bytes that a thread copies at a time. The C library copies a few tens of MB and
#: more past the caches, which saves reading what is overwritten: a third of the traffic.
PIECES = (32 * 2**20, 256 * 2**20)

#: Pieces for each thread, so that one that is held up does not hold up all.
SHARE = 4


def copy_bytes(sizes: Iterable[int]) -> int:
    """Return the bytes of the block that holds copies of arrays of so many bytes each."""
    return sum(map(aligned, sizes))


class ArrayCopy(Generic[Key]):
    """Room for copies of arrays, taken and touched when it is made.

    Arrays that are neighbours in a block of memory become neighbours here, so that they are
    copied in one go: parameters and optimizer state are a few blocks of hundreds of arrays.

    Parameters
    ----------
    like : mapping of array
        Shapes and types of the arrays, and how they lie.
    """

    def __init__(self, like: Mapping[Key, Array]) -> None:
        self.nbytes = copy_bytes(array.nbytes for array in like.values())
        self._block = Arena(self.nbytes).take((self.nbytes,), np.uint8)
        self._copies: dict[Key, Array] = {}
        self._starts: dict[Key, int] = {}
        start = 0
        for key in sorted(like, key=lambda key: _address(like[key])):
            array, end = like[key], start + like[key].nbytes
            self._copies[key] = self._block[start:end].view(array.dtype).reshape(array.shape)
            self._starts[key], start = start, start + aligned(array.nbytes)

    def fits(self, arrays: Mapping[Key, Array]) -> bool:
        """Tell whether these are arrays of the names, shapes and types that there is room for."""
        return self._copies.keys() == arrays.keys() and all(
            (array.shape, array.dtype) == (self._copies[key].shape, self._copies[key].dtype)
            for key, array in arrays.items()
        )

    def take(self, arrays: Mapping[Key, Array]) -> Mapping[Key, Array]:
        """Copy arrays, which ``fits`` has agreed to, and return the copies.

        They are good until the next call. As many threads copy as the kernels have: NumPy's copy
        holds no lock of the interpreter, and one core alone may not use up the memory's speed.
        """
        count = ops.thread_count().count
        size = min(max(self.nbytes // (SHARE * count), PIECES[0]), PIECES[1])
        pieces = deque(_split(self._runs(arrays), size))
        threads = [
            threading.Thread(target=_copy_all, args=(pieces,), name="tisslm-copy", daemon=True)
            for _ in range(min(count, len(pieces)) - 1)
        ]
        for thread in threads:
            thread.start()
        _copy_all(pieces)
        for thread in threads:
            thread.join()
        return dict(self._copies)

    def _runs(self, arrays: Mapping[Key, Array]) -> Iterator[tuple[Array, Array]]:
        """Yield (target, source): bytes of neighbours together, any other array by itself."""
        run: _Run | None = None
        for key, target in self._copies.items():
            source = arrays[key]
            if not source.flags.c_contiguous:
                yield target, source
                continue
            now = _Run(source, self._starts[key])
            if run is not None and run.takes(now):
                continue
            if run is not None:
                yield run.pair(self._block)
            run = now
        if run is not None:
            yield run.pair(self._block)


class _Run:
    """Neighbours among the sources, whose copies lie at the same distances.

    Parameters
    ----------
    first : ndarray
        C-contiguous.
    start : int
        Where its copy begins in the block.
    """

    def __init__(self, first: Array, start: int) -> None:
        self.root, self.start = _root(first), start
        self.address = _address(first)
        self.nbytes = first.nbytes

    def takes(self, further: _Run) -> bool:
        """Make another run a part of this one, if it follows; tell whether it did."""
        distance = further.address - self.address
        follows = (
            further.root is self.root
            and distance == further.start - self.start
            and 0 <= distance - self.nbytes < ALIGNMENT
        )
        if follows:
            self.nbytes = distance + further.nbytes
        return follows

    def pair(self, block: Array) -> tuple[Array, Array]:
        """Return the bytes of the copies and of the sources."""
        source = self.root.reshape(-1).view(np.uint8)
        first = self.address - _address(source)
        return block[self.start : self.start + self.nbytes], source[first : first + self.nbytes]


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _root(array: Array) -> Array:
    """Return the array that this one is a view of, if that is in one piece."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    return root if root.flags.c_contiguous else array


def _split(pairs: Iterable[tuple[Array, Array]], nbytes: int) -> Iterator[tuple[Array, Array]]:
    """Cut bytes into pieces; what is no row of bytes stays whole."""
    for target, source in pairs:
        if target.dtype != np.uint8 or target.ndim != 1 or not source.flags.c_contiguous:
            yield target, source
            continue
        for start in range(0, len(target), nbytes):
            yield target[start : start + nbytes], source[start : start + nbytes]


def _copy_all(pieces: deque[tuple[Array, Array]]) -> None:
    """Copy until nobody has a piece left."""
    while True:
        try:
            target, source = pieces.popleft()
        except IndexError:
            return
        np.copyto(target, source)
