"""The table in which the threads of kernels stamp when they begin and end their share of a loop.

The stamping itself is in ``_kernels/c/regions.c``.
"""

from __future__ import annotations

import time

import numpy as np

from tisslm import ops
from tisslm.tracking.profiling.records import Share

__all__ = ["Regions"]

ROOM = 64  # parallel loops of one call of a kernel; beyond them, none are stamped
HEAD = 6  # room, threads, count, clock; room and count of parts, of which none are noted


class Regions:
    """Stamps of the kernel calls inside the ``with`` block.

    Parameters
    ----------
    threads : int
        The number of threads that the kernels use.

    Examples
    --------
    >>> with Regions(threads=2) as regions:  # doctest: +SKIP
    ...     ops.fill(array, 0.0)
    ...     shares = regions.shares(regions.take())
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pairs = threads + 1  # the last is the loop, seen by the caller
        self._table = np.zeros(HEAD + ROOM * 2 * self._pairs, np.int64)
        self._table[:4] = ROOM, threads, 0, time.CLOCK_MONOTONIC
        self._view = memoryview(self._table.data)

    def __enter__(self) -> Regions:
        ops.watch_regions(self._table)
        return self

    def __exit__(self, *_: object) -> None:
        ops.watch_regions(None)

    def take(self) -> bytes:
        """Return the stamps since the last ``take``, as they are: this is on the clock."""
        count = self._view[2]
        if not count:
            return b""
        self._view[2] = 0
        return self._view[HEAD : HEAD + 2 * self._pairs * count].tobytes()

    def shares(self, taken: bytes) -> tuple[Share, ...]:
        """Read what ``take`` returned: loop by loop, and in each thread by thread."""
        pairs = np.frombuffer(taken, np.int64).reshape(-1, 2).tolist()
        return tuple(
            Share(i % self._pairs, start, end)
            for i, (start, end) in enumerate(pairs)
            if end and i % self._pairs < self._threads
        )
