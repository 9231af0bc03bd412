"""A copy of many arrays in a block of its own, made by several threads.

What does not live here: which arrays are copied, and when.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.arenas import Arena, aligned

__all__ = ["ArrayCopy", "copy_bytes"]

Array = NDArray[Any]
Key = TypeVar("Key", bound=Hashable)

#: Bytes that a thread copies at a time: enough for streaming stores, few enough to share work.
PIECE = 32 * 2**20


def copy_bytes(sizes: Iterator[int]) -> int:
    """Return the bytes of the block that holds copies of arrays of so many bytes each."""
    return sum(map(aligned, sizes))


class ArrayCopy(Generic[Key]):
    """Room for copies of arrays, taken and touched when it is made.

    Parameters
    ----------
    like : mapping of array
        Shapes and types of the arrays.
    """

    def __init__(self, like: Mapping[Key, Array]) -> None:
        self.nbytes = copy_bytes(array.nbytes for array in like.values())
        arena = Arena(self.nbytes)
        self._copies = {key: arena.take(array.shape, array.dtype) for key, array in like.items()}

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
        pieces = deque(self._pieces(arrays))
        threads = [
            threading.Thread(target=_copy_all, args=(pieces,), name="tisslm-copy", daemon=True)
            for _ in range(min(ops.thread_count().count, len(pieces)) - 1)
        ]
        for thread in threads:
            thread.start()
        _copy_all(pieces)
        for thread in threads:
            thread.join()
        return dict(self._copies)

    def _pieces(self, arrays: Mapping[Key, Array]) -> Iterator[tuple[Array, Array]]:
        """Yield (target, source): parts of large arrays, whole ones that are not in one piece."""
        for key, source in arrays.items():
            target = self._copies[key]
            if not source.flags.c_contiguous:
                yield target, source
                continue
            flat, copy = source.reshape(-1), target.reshape(-1)
            step = max(1, PIECE // source.itemsize)
            for start in range(0, len(flat), step):
                yield copy[start : start + step], flat[start : start + step]


def _copy_all(pieces: deque[tuple[Array, Array]]) -> None:
    """Copy until nobody has a piece left."""
    while True:
        try:
            target, source = pieces.popleft()
        except IndexError:
            return
        np.copyto(target, source)
