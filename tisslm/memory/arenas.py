"""Arenas: blocks of memory from which arrays are cut, and the same with shapes alone."""

from __future__ import annotations

import contextlib
import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.errors import ConfigError, ShapeError

__all__ = ["ALIGNMENT", "Arena", "ShapeArena", "aligned"]

ALIGNMENT = 64  # bytes: one cache line, and one AVX-512 register
HUGE_PAGE = 2 * 2**20
MOST_BYTES = 2**62  # of an array that NumPy can have

Array = NDArray[Any]


def aligned(nbytes: int) -> int:
    """Round a number of bytes up to whole cache lines."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def array_bytes(shape: tuple[int, ...], dtype: Any) -> int:
    """Return the bytes of an array."""
    return math.prod(shape) * int(np.dtype(dtype).itemsize)


class Arena:
    """A zeroed block of memory from which arrays are cut in order.

    It is one private anonymous map, aligned to 2 MiB, in huge pages as far as they are filled,
    and touched first by the threads that will work on it.

    Parameters
    ----------
    nbytes : int
        The capacity. The map is private (a shared one gets no huge pages), so memory is taken by
        the first touch, which happens here, in parallel.
    at_once : bool
        Whether it does; otherwise whoever first writes to a page takes its memory.
    """

    def __init__(self, nbytes: int, *, at_once: bool = True) -> None:
        self.nbytes = aligned(max(nbytes, ALIGNMENT))
        self._map = mmap.mmap(
            -1, self.nbytes + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        block = np.frombuffer(self._map, dtype=np.uint8)
        start = -block.ctypes.data % HUGE_PAGE
        self._advise(start)
        self._block = block[start : start + self.nbytes]
        self._used = 0
        if at_once:
            ops.fill(self._block.view(np.float32), 0.0)

    def _advise(self, start: int) -> None:
        """Ask for huge pages where whole ones fit, and for small pages in the rest.

        A huge page for the last part would take up to 2 MiB more than was planned.
        """
        whole = self.nbytes // HUGE_PAGE * HUGE_PAGE
        with contextlib.suppress(OSError, AttributeError):  # a kernel without huge pages refuses
            if whole:
                self._map.madvise(mmap.MADV_HUGEPAGE, start, whole)
            self._map.madvise(mmap.MADV_NOHUGEPAGE, start + whole, HUGE_PAGE - start)

    def take(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Cut the next array, 64-byte aligned; its contents are zero."""
        nbytes = array_bytes(shape, dtype)
        start, end = self._used, self._used + nbytes
        if end > self.nbytes:
            raise ShapeError(f"arena: {nbytes} bytes wanted, {self.nbytes - start} left")
        self._used = aligned(end)
        array: Array = self._block[start:end].view(dtype).reshape(shape)
        return array


class ShapeArena:
    """An arena without memory: every array is a single zero, broadcast to its shape.

    Parameters
    ----------
    nbytes : int
        The capacity that an ``Arena`` would have.
    at_once : bool
        As for an ``Arena``; there is nothing to take.
    """

    def __init__(self, nbytes: int, *, at_once: bool = True) -> None:
        self.nbytes = aligned(max(nbytes, ALIGNMENT))

    def take(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return a read-only array of this shape that takes no memory.

        Raises
        ------
        ConfigError
            If no machine could have it.
        """
        nbytes = array_bytes(shape, dtype)
        if nbytes > MOST_BYTES:
            raise ConfigError(
                f"memory: expected arrays of at most {MOST_BYTES} bytes, got one of shape "
                f"{tuple(map(int, shape))}; choose a smaller model, seq_len or batch_size"
            )
        return np.broadcast_to(np.zeros((), dtype), shape)
