"""What each thread computes in each parallel loop of an update, and what is done outside of them.

Stamps are of ``_kernels/c/regions.c``, by the clock of each thread's own processor time, so that
there may be more threads than cores: a thread that has no core, or waits, computes nothing.

What does not live here: what many threads would take by it (``simulation``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
from numpy.typing import NDArray
from simulation import Call, Loop, Update, makespan

from tisslm import ops
from tisslm.ops.cost import named, nbytes
from tisslm.ops.watchers import Watcher

__all__ = ["Stamper", "Stamps", "barrier_seconds"]

HEAD = 6  # words before the stamps, as in regions.c
ROOM = 2**14  # loops of an update
PARTS = 2**21  # parts of loops that are shared out as they run
EMPTY_LOOPS = 200
NS = 1e-9


class Stamps:
    """A table that the kernels stamp inside the ``with`` block.

    Parameters
    ----------
    threads : int
    clock : int
        ``time.CLOCK_THREAD_CPUTIME_ID`` or ``time.CLOCK_MONOTONIC``.
    """

    def __init__(self, threads: int, clock: int) -> None:
        self._pairs = threads + 1
        self._parts_at = HEAD + ROOM * 2 * self._pairs
        self._table = np.zeros(self._parts_at + 3 * PARTS, np.int64)
        self._table[:6] = ROOM, threads, 0, clock, PARTS, 0

    def __enter__(self) -> Stamps:
        if not ops.watch_regions(self._table):
            raise RuntimeError("threads cannot be watched: twins, or a build without OpenMP")
        return self

    def __exit__(self, *_: object) -> None:
        ops.watch_regions(None)

    @property
    def count(self) -> int:
        """Loops so far."""
        return int(self._table[2])

    def caller_ns(self, first: int, stop: int) -> int:
        """Return what the calling thread's clock made while it was in these loops."""
        at = HEAD + 2 * self._pairs * np.arange(first, stop) + 2 * (self._pairs - 1)
        return int((self._table[at + 1] - self._table[at]).sum())

    def take(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return loop x thread x (begin, end), and parts in order of loop and turn; begin anew."""
        count, parts = int(self._table[2]), int(self._table[5])
        if count >= ROOM or parts > PARTS:
            raise RuntimeError(f"an update has {count} loops and {parts} parts, which is too many")
        stamps = (
            self._table[HEAD : HEAD + 2 * self._pairs * count].reshape(-1, self._pairs, 2).copy()
        )
        found = self._table[self._parts_at : self._parts_at + 3 * parts].reshape(parts, 3)
        order = np.lexsort((found[:, 1], found[:, 0]))
        self._table[2] = self._table[5] = 0
        return stamps, found[order]


@dataclass
class _Named(Watcher):
    """Notes of each operation its name, its bytes, its loops, and what it does outside of them."""

    stamps: Stamps

    def __post_init__(self) -> None:
        self.calls: list[Call] = []
        self._begin = 0

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        """Begin a call."""
        self._loops = self.stamps.count
        self._begin = time.thread_time_ns()

    def after(self, op: str, args: tuple[Any, ...]) -> None:
        """End it."""
        took, stop = time.thread_time_ns() - self._begin, self.stamps.count
        serial = max(0, took - self.stamps.caller_ns(self._loops, stop)) * NS
        arguments = named(op, args)
        name = f"{op} {_shape(arguments)}".rstrip()
        self.calls.append(Call(name, nbytes(op, arguments), stop - self._loops, serial))


def _shape(arguments: Mapping[str, Any]) -> str:
    """Return outputs and channels of a product with a weight; nothing of anything else."""
    for name in ("w_OC", "dw_OC"):
        if arguments.get(name) is not None:
            return "x".join(map(str, arguments[name].shape))
    return ""


class Stamper:
    """Stamps whole updates, and reduces them to what each loop takes.

    Parameters
    ----------
    threads : int
    update : callable
        Makes one update.
    """

    def __init__(self, threads: int, update: Callable[[], object]) -> None:
        self._threads, self._update = threads, update
        self._stamps = Stamps(threads, time.CLOCK_THREAD_CPUTIME_ID)
        self._work: list[NDArray[np.int64]] = []
        self._parts: list[NDArray[np.int64]] = []
        self._serial: list[float] = []

    def stamp(self, updates: int) -> None:
        """Stamp some updates; nothing else looks on."""
        with self._stamps as stamps:
            for _ in range(updates):
                stamps.take()
                begin = time.thread_time_ns()
                self._update()
                took = time.thread_time_ns() - begin
                self._serial.append((took - stamps.caller_ns(0, stamps.count)) * NS)
                found, parts = stamps.take()
                self._work.append(found[:, :, 1] - found[:, :, 0])
                self._parts.append(parts)

    def reduced(self) -> Update:
        """Return the least of the stamped updates, share by share, with the names of the calls.

        Other programs take caches and cores away, which only adds; so does the first update.

        Raises
        ------
        RuntimeError
            If two updates were not the same loops.
        """
        clock = self._clock_ns()
        with self._stamps as stamps, ops.watching(watcher := _Named(stamps)):
            stamps.take()
            self._update()
            shape = stamps.take()[0].shape[:2]
        if any(work.shape != shape for work in self._work):
            raise RuntimeError("the loops of an update are not those of another")
        if any(not np.array_equal(p[:, :2], self._parts[0][:, :2]) for p in self._parts):
            raise RuntimeError("the parts of an update are not those of another")
        work = np.maximum(np.min(np.stack(self._work), 0)[:, :-1] - clock, 0) * NS
        present = np.stack(self._work).max(0)[:, :-1] > 0
        took = np.maximum(np.min([p[:, 2] for p in self._parts], 0) - clock, 0) * NS
        first = np.searchsorted(self._parts[0][:, 0], np.arange(len(work) + 1))
        loops = [
            self._loop(work[i][present[i]], took[first[i] : first[i + 1]]) for i in range(len(work))
        ]
        return Update(self._threads, self._outside(len(loops) * clock * NS), loops, watcher.calls)

    def _loop(self, shares: NDArray[Any], parts: NDArray[Any]) -> Loop:
        if len(parts):
            return Loop(len(shares), float(parts.sum()), makespan(parts.tolist(), len(shares)))
        return Loop(len(shares), float(shares.sum()), float(shares.max()))

    def _outside(self, stamping: float) -> float:
        return max(0.0, min(self._serial) - stamping)

    def _clock_ns(self) -> float:
        """Return what reading the clock costs: what a share without work takes."""
        one = np.zeros(1, np.float32)
        with self._stamps as stamps:
            stamps.take()
            for _ in range(EMPTY_LOOPS):
                ops.fill(one, 0.0)
            found, _ = stamps.take()
        shares = found[:, :-1, 1] - found[:, :-1, 0]
        return float(np.median(shares[shares > 0]))


def barrier_seconds(threads: int) -> float:
    """Return what entering and leaving a loop without work takes on so many real threads.

    A tenth of the loops take less: most of the others waited for a thread that had no core.
    """
    one = np.zeros(1, np.float32)
    with Stamps(threads, time.CLOCK_MONOTONIC) as stamps:
        for _ in range(EMPTY_LOOPS):
            ops.fill(one, 0.0)
        found, _ = stamps.take()
    return float(np.quantile(found[:, -1, 1] - found[:, -1, 0], 0.1)) * NS
