"""Copying many arrays into one block of memory, with several threads."""

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

#: Pieces for each thread, so that a delayed thread does not delay all.
SHARE = 4


def copy_bytes(sizes: Iterable[int]) -> int:
    """Return the bytes of a block that holds copies of arrays of these sizes."""
    return sum(map(aligned, sizes))


class ArrayCopy(Generic[Key]):
    """Memory for copies of arrays, allocated and touched when it is made.

    Arrays that are neighbours in memory become neighbours here, so that they are copied at once:
    parameters and optimizer state are a few blocks of hundreds of arrays.

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
        """Return True if arrays have the names, shapes and types that there is memory for."""
        return self._copies.keys() == arrays.keys() and all(
            (array.shape, array.dtype) == (self._copies[key].shape, self._copies[key].dtype)
            for key, array in arrays.items()
        )

    def take(self, arrays: Mapping[Key, Array]) -> Mapping[Key, Array]:
        """Copy arrays for which ``fits`` is True, and return the copies.

        They are valid until the next call. The copy uses as many threads as the kernels: NumPy
        copies without the interpreter's lock, and a single core may not saturate the memory.
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
        """Yield (target, source): the bytes of neighbours together, any other array by itself."""
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
    """Neighbouring source arrays, whose copies have the same distances.

    Parameters
    ----------
    first : ndarray
        The first array, C-contiguous.
    start : int
        Offset of its copy in the block.
    """

    def __init__(self, first: Array, start: int) -> None:
        self.root, self.start = _root(first), start
        self.address = _address(first)
        self.nbytes = first.nbytes

    def takes(self, further: _Run) -> bool:
        """Append another run, if it follows this one in memory; return whether it does."""
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
    """Return the array that this one is a view of, if that array is contiguous."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    return root if root.flags.c_contiguous else array


def _split(pairs: Iterable[tuple[Array, Array]], nbytes: int) -> Iterator[tuple[Array, Array]]:
    """Cut flat arrays of bytes into pieces; other arrays stay whole."""
    for target, source in pairs:
        if target.dtype != np.uint8 or target.ndim != 1 or not source.flags.c_contiguous:
            yield target, source
            continue
        for start in range(0, len(target), nbytes):
            yield target[start : start + nbytes], source[start : start + nbytes]


def _copy_all(pieces: deque[tuple[Array, Array]]) -> None:
    """Copy pieces until none is left."""
    while True:
        try:
            target, source = pieces.popleft()
        except IndexError:
            return
        np.copyto(target, source)
