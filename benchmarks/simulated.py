"""Updates on more threads than there are cores: their stamps, simulated, checked, laid out.

What does not live here: stamping (``stamps``), the arithmetic (``simulation``).
"""

from __future__ import annotations

import math
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from families import Llama
from job import OURS, Contestant, Job
from machine import describe, say
from protocol import Side, SideFailedError
from simulation import Machine, Simulated, Update, simulate, worst
from sizes import Size
from turns import Measured, compare, first_updates, start, verify

__all__ = ["Simulation", "as_json", "measure", "table"]

CHECKED = (1, 2)  # threads that are both simulated and timed
WORST = 10  # operations that are shown
WORST_KEYS = ("operation", "calls", "share", "efficiency", "lost")
ROUND_SECONDS = 1.0
TURNS = 2  # of what is timed, in a round
#: Threads that may be more than the cores must not keep these busy while they wait.
SLEEPING = (("OMP_WAIT_POLICY", "passive"),)
#: What is outside of loops is stamped where one thread does all of them, for the same number:
#: beside more threads than cores, it would find its caches full of theirs.
ALONE = (("OMP_THREAD_LIMIT", "1"),)
#: How far a simulation of 1 or 2 threads may be from the clock before it is said.
CLOSE = 0.1


@dataclass(frozen=True)
class Simulation:
    """What came out.

    Attributes
    ----------
    measured : Measured
        The sides, with seconds of those that were timed.
    machine : Machine
        What was supposed of the machine.
    by_threads : dict of int to Simulated
        1 and 2 are among them.
    seconds : dict of int to float
        Of an update by the clock, in the fastest turn, for ``CHECKED``: the clock has what other
        programs take away, and processor time does not.
    """

    measured: Measured
    machine: Machine
    by_threads: dict[int, Simulated]
    seconds: dict[int, float]

    def off(self, threads: int) -> float:
        """Return how far the simulation is from the clock, relative to it."""
        return self.by_threads[threads].seconds / self.seconds[threads] - 1


def measure(
    size: Size,
    bias: bool,
    precision: str,
    counts: list[int],
    rounds: int,
    barrier: float | None,
    bandwidth: float,
) -> Simulation:
    """Stamp updates on 1, 2 and the given numbers of threads, and time those on 1 and 2.

    Parameters
    ----------
    counts : list of int
        Numbers of threads to simulate.
    rounds : int
        Turns of what is timed, and updates that are stamped on each number of threads.
    barrier : float or None
        Seconds of a loop without work on two threads; None to measure it.
    bandwidth : float
        Bytes a second of memory; 0 for no bound.

    Raises
    ------
    LossMismatchError
        Before anything is timed, if a number of threads has other losses.
    SideFailedError
        If a side breaks.
    """
    timed = [Contestant(f"{n} timed", OURS, n, precision) for n in CHECKED]
    measured = Measured(Job(size, bias, tuple(timed), rounds=rounds))
    with tempfile.TemporaryDirectory(prefix="simulated-") as name:
        folder = Path(name)
        barriers = clocked(measured, folder)
        found = [
            stamped(n, measured, folder).with_serial_of(outside(n, measured))
            for n in sorted({*CHECKED, *counts})
        ]
    if barrier is None:
        barrier = min(barriers)
    machine = Machine(barrier, bandwidth)
    by_threads = {update.threads: simulate(update, machine) for update in found}
    seconds = {one.threads: min(measured.seconds[one.who]) / measured.steps for one in timed}
    return Simulation(measured, machine, by_threads, seconds)


def clocked(measured: Measured, folder: Path) -> list[float]:
    """Time updates by the clock; return what a loop without work takes, a figure for each round."""
    barriers: list[float] = []
    with ExitStack() as stack:
        sides = [begun(one, folder, measured, stack) for one in measured.job.contestants]
        measured.steps = max(1, round(ROUND_SECONDS / verify(sides, measured)))
        for number in range(measured.job.rounds):
            say(f"round {number + 1} of {measured.job.rounds}, {measured.steps} timed updates")
            for side in (sides if number % 2 == 0 else sides[::-1]) * TURNS:
                reply = side.ask("updates", n=measured.steps)
                measured.seconds.setdefault(side.who, []).append(reply["seconds"])
            barriers.append(sides[-1].ask("barrier")["seconds"])
    return barriers


def stamped(threads: int, measured: Measured, folder: Path) -> Update:
    """Stamp updates on so many threads, in a process that is alone, and hold it to the losses."""
    first = measured.job.contestants[0]
    one = Contestant(f"{threads} stamped", OURS, threads, first.precision, environment=SLEEPING)
    with ExitStack() as stack:
        side = begun(one, folder, measured, stack)
        first_updates(side, measured)
        compare(measured, first, one)
        return Update.from_json(side.ask("stamped", n=measured.job.rounds))


def outside(threads: int, measured: Measured) -> Update:
    """Stamp what is outside of loops: the calls of so many threads, whose loops one thread does."""
    job = measured.job
    one = Contestant(
        f"{threads} alone", OURS, threads, job.contestants[0].precision, environment=ALONE
    )
    small = Measured(Job(a_threads_share(job.size, threads), job.bias, (one,), rounds=job.rounds))
    with tempfile.TemporaryDirectory(prefix="simulated-") as name, ExitStack() as stack:
        side = begun(one, Path(name), small, stack)
        first_updates(side, small)
        return Update.from_json(side.ask("stamped", n=job.rounds))


def begun(one: Contestant, folder: Path, measured: Measured, stack: ExitStack) -> Side:
    """Start and prepare one of our sides."""
    side = start(one, folder, measured, stack)
    if side is None:
        raise SideFailedError(f"{one.who} could not be started")
    return side


def a_threads_share(size: Size, threads: int) -> Size:
    """Return a size of the same calls, whose matrices are about an n-th.

    What the calling thread finds in its caches between two loops is what its share of them has left
    there, not the whole of them.
    """
    part, family = math.isqrt(threads), size.family
    if isinstance(family, Llama):
        family = replace(family, n_hidden=max(8, family.n_hidden // part))
    head = max(4, size.n_embd // size.n_head // part // 2 * 2)
    return replace(size, n_embd=size.n_head * head, family=family) if part > 1 else size


def as_json(found: Simulation) -> dict[str, Any]:
    """Return the figures as the document of ``--json``."""
    one = found.by_threads[1]
    return {
        "shape": str(found.measured.job.size),
        "machine": describe(),
        "simulated": True,
        "rounds": found.measured.job.rounds,
        "steps": found.measured.steps,
        "barrier_seconds_on_two": found.machine.barrier,
        "bandwidth": found.machine.bandwidth,
        "measured_seconds": found.seconds,
        "off": {n: found.off(n) for n in CHECKED},
        "results": [
            {
                "threads": n,
                "seconds": many.seconds,
                "efficiency": many.efficiency(one),
                "lost": many.losses(one),
                "worst": [
                    dict(zip(WORST_KEYS, row, strict=True)) for row in worst(many, one, WORST)
                ],
            }
            for n, many in found.by_threads.items()
        ],
    }


def table(found: Simulation) -> str:
    """Lay the results out for reading."""
    one, job = found.by_threads[1], found.measured.job
    bound = f"{found.machine.bandwidth / 1e9:.0f} GB/s" if found.machine.bandwidth else "no bound"
    lines = [
        f"SIMULATED, not measured: the least of {job.rounds} updates on "
        f"{describe()['cores']} cores; losses equal to the bit",
        f"supposed: a loop costs {found.machine.barrier * 1e6:.1f} us x log2(threads) beside its "
        f"work; memory: {bound}",
        "",
        f"{'threads':>8}{'s':>11}{'speed-up':>10}{'efficiency':>12}   lost to "
        + "".join(f"{cause:>12}" for cause in one.losses(one)),
    ]
    for n, many in found.by_threads.items():
        lines.append(
            f"{n:8}{many.seconds:11.5f}{one.seconds / many.seconds:10.2f}"
            f"{many.efficiency(one):12.3f}           "
            + "".join(f"{share:12.1%}" for share in many.losses(one).values())
        )
    lines.append("")
    for n in CHECKED:
        far = "" if abs(found.off(n)) <= CLOSE else f", more than {CLOSE:.0%}: a busy machine?"
        lines.append(
            f"checked: {n} thread{'s' if n > 1 else ''} measured {found.seconds[n]:.5f} s, "
            f"simulated {found.by_threads[n].seconds:.5f} s ({found.off(n):+.1%}{far})"
        )
    for n, many in found.by_threads.items():
        if n not in CHECKED:
            lines += ["", f"what loses most on {n} threads, simulated:"]
            lines.append(f"{'operation':42}{'calls':>7}{'share':>8}{'efficiency':>12}{'lost':>8}")
            lines += [
                f"{name:42}{calls:7}{share:8.1%}{efficiency:12.2f}{lost:8.1%}"
                for name, calls, share, efficiency, lost in worst(many, one, WORST)
            ]
    return "\n".join(lines)
