"""What an update would take on more threads than there are cores: simulated, never measured.

A loop takes as long as its slowest thread computes, and one that is shared out while it runs as
long as its parts take when each goes to the first thread that is free. What is done outside of
loops is done once, whatever the threads. Each loop costs a barrier more.

Not simulated: memory's bandwidth, unless one is given; caches, of which each core would have its
own, while here all threads share those of the cores at hand; clocks that fall when all cores work.

What does not live here: the stamps (``stamps``), the processes (``threads``).
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = ["Call", "Loop", "Machine", "Simulated", "Update", "makespan", "simulate", "worst"]


def makespan(parts: Sequence[float], threads: int) -> float:
    """Return when the last part ends, if each in turn goes to the first thread that is free."""
    free = [0.0] * threads
    for part in parts:
        heapq.heapreplace(free, free[0] + part)
    return max(free)


@dataclass(frozen=True)
class Loop:
    """A parallel loop of an update; seconds of processor time.

    Attributes
    ----------
    threads : int
        Of the team; 1 where the kernel found that it has too little to do for more.
    work : float
        What all of them compute together.
    slowest : float
        What it takes.
    """

    threads: int
    work: float
    slowest: float


@dataclass(frozen=True)
class Call:
    """A call of an operation: its name, its bytes, how many loops, and seconds outside of them."""

    operation: str
    nbytes: int
    loops: int
    serial: float


@dataclass(frozen=True)
class Update:
    """An update on some number of threads.

    Attributes
    ----------
    threads : int
    serial : float
        Seconds outside of all loops: Python, and what kernels do before and after them.
    loops : list of Loop
    calls : list of Call
        The operations in order; their loops are those of ``loops``.
    """

    threads: int
    serial: float
    loops: list[Loop]
    calls: list[Call]

    def as_json(self) -> dict[str, Any]:
        """Return plain values, for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Update:
        """Take what ``as_json`` returned."""
        loops, calls = [Loop(**x) for x in found["loops"]], [Call(**x) for x in found["calls"]]
        return cls(found["threads"], found["serial"], loops, calls)

    def with_serial_of(self, other: Update) -> Update:
        """Return these loops with what another update of such calls did outside of them.

        Raises
        ------
        ValueError
            If it had other calls.
        """
        pairs = list(zip(self.calls, other.calls, strict=False))
        alike = all(a.operation.split()[0] == b.operation.split()[0] for a, b in pairs)
        if not alike or not len(self.calls) == len(pairs) == len(other.calls):
            raise ValueError("the calls of an update are not those of another")
        calls = [replace(mine, serial=theirs.serial) for mine, theirs in pairs]
        return replace(self, serial=other.serial, calls=calls)


@dataclass(frozen=True)
class Machine:
    """What a simulation supposes of the machine.

    Attributes
    ----------
    barrier : float
        Seconds that a loop costs beside its work on two threads, and log2(n) times as many on n.
    bandwidth : float
        Bytes a second from and to memory on all threads together; 0: as many as they ask for.
    """

    barrier: float
    bandwidth: float = 0.0

    def barrier_on(self, threads: int) -> float:
        """Return what a loop costs beside its work, in s."""
        return self.barrier * math.log2(threads) if threads > 1 else 0.0


@dataclass(frozen=True)
class Simulated:
    """An update on n threads, simulated; seconds.

    Attributes
    ----------
    threads : int
    serial, barriers, memory : float
        Outside of loops or in loops of one thread; in barriers; what memory's bandwidth adds.
    slowest : float
        Sum over the loops of what they take.
    work : float
        What all threads compute in them together.
    by_operation : dict of str to (calls, seconds, seconds of all threads' work)
    """

    threads: int
    serial: float
    barriers: float
    memory: float
    slowest: float
    work: float
    by_operation: dict[str, tuple[int, float, float]]

    @property
    def seconds(self) -> float:
        """The whole update."""
        return self.serial + self.barriers + self.memory + self.slowest

    def efficiency(self, one: Simulated) -> float:
        """Return T(1) / (n T(n))."""
        return one.seconds / (self.threads * self.seconds)

    def losses(self, one: Simulated) -> dict[str, float]:
        """Return what is missing from an efficiency of 1, by its causes, as shares of n T(n)."""
        whole = self.threads * self.seconds
        return {
            "imbalance": (self.threads * self.slowest - self.work) / whole,
            "serial": (self.threads * self.serial - one.serial) / whole,
            "barriers": self.threads * self.barriers / whole,
            "more work": (self.work - one.work) / whole,
            "memory": self.threads * self.memory / whole,
        }


def simulate(update: Update, machine: Machine) -> Simulated:
    """Return what an update takes on its number of threads, with a core for each."""
    serial, barriers, memory, slowest, work = update.serial, 0.0, 0.0, 0.0, 0.0
    by: dict[str, tuple[int, float, float]] = defaultdict(lambda: (0, 0.0, 0.0))
    loops = iter(update.loops)
    for call in update.calls:
        took, done, within, waits = call.serial, call.serial, 0.0, 0.0
        for loop in (next(loops) for _ in range(call.loops)):
            if loop.threads == 1 < update.threads:
                serial += loop.slowest
                took, done = took + loop.slowest, done + loop.work
                continue
            within, done = within + loop.slowest, done + loop.work
            waits += machine.barrier_on(loop.threads)
            work += loop.work
        slowest, barriers = slowest + within, barriers + waits
        more = 0.0
        if machine.bandwidth and update.threads > 1:
            more = max(0.0, call.nbytes / machine.bandwidth - within)
            memory += more
        calls, seconds, worked = by[call.operation]
        by[call.operation] = calls + 1, seconds + took + within + waits + more, worked + done
    inside = sum(call.serial for call in update.calls)
    python = max(0.0, update.serial - inside)
    by["Python"] = 1, python, python
    return Simulated(update.threads, serial, barriers, memory, slowest, work, dict(by))


def worst(many: Simulated, one: Simulated, n: int) -> list[tuple[str, int, float, float, float]]:
    """Return the operations that lose most: name, calls, share of T(n), efficiency, loss.

    Efficiency is what one thread takes over n times what n take; loss is the share of n T(n) that
    would be gained if it were 1.
    """
    rows = []
    for name, (calls, seconds, _) in many.by_operation.items():
        alone = one.by_operation.get(name, (0, 0.0, 0.0))[1]
        whole = many.threads * seconds
        lost = (whole - alone) / (many.threads * many.seconds)
        share = seconds / many.seconds
        rows.append((name, calls, share, alone / whole if whole else 1.0, lost))
    return sorted(rows, key=lambda row: -row[-1])[:n]
