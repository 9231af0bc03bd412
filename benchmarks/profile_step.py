"""Where the time of a training step goes, and how far each part is from its bound.

``profile_step.py --help``. What does not live here: the timers (``timers``), how much work a call
is (``tisslm.ops.cost``), the bounds (``bounds``).
"""

from __future__ import annotations

import math
import statistics
import tempfile
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
import typer
from bounds import Bounds
from command import (
    Bias,
    Checkpointing,
    ElementType,
    JsonFile,
    Rounds,
    SizeName,
    Steps,
    Threads,
    contestants,
)
from job import Job, Precision
from machine import describe, say, stop, usable_cores, warn_if_busy, write_json
from protocol import UnavailableError
from sides.ours import OurSide
from sizes import parse_size
from timers import Counter, Part, Timer

from tisslm import ops
from tisslm.ops.cost import UNIT, bound_of

VERIFIED_UPDATES = 2
ROUND_SECONDS = 1.5
BOUND_SECONDS = 0.2
CALL_SECONDS = 0.1
EXPECTED_AT = (16, 64)  # threads of the derived expectations


@dataclass
class Profile:
    """What came out.

    Attributes
    ----------
    job : Job
    parts : dict of str to Part
    plain, timed : list of float
        Seconds of an update, without and with the timers, one figure for each round.
    call_seconds : dict of int to float
        What the smallest call of an operation costs, by threads: 1 and the job's.
    """

    job: Job
    bounds: Bounds
    parts: dict[str, Part]
    plain: list[float] = field(default_factory=list)
    timed: list[float] = field(default_factory=list)
    call_seconds: dict[int, float] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """Element type of the products."""
        return self.job.contestants[0].precision

    @property
    def rest(self) -> float:
        """Seconds of an update that are in no operation, that is in Python."""
        return statistics.median(self.plain) - sum(self.seconds(part) for part in self.parts)

    def seconds(self, part: str) -> float:
        """Return the median over the rounds of a part's seconds in an update."""
        return statistics.median(self.parts[part].seconds)

    def rate(self, part: str) -> float:
        """Return GFLOP/s or GB/s."""
        work = self.parts[part].flops if bound_of(part) == "products" else self.parts[part].nbytes
        return work / self.seconds(part) / 1e9

    def of_bound(self, part: str) -> float:
        """Return the share of what is possible."""
        return self.rate(part) / self.bounds.limit(bound_of(part), self.precision)

    def derived_speed_up(self, threads: int) -> float:
        """Return what more threads would bring, against those of this run: derived, not measured.

        Python is one thread's; each call costs what it costs on one thread, and a barrier that
        grows with the logarithm of the threads; everything else, memory's bound included, is
        divided by them.
        """
        now = self.job.contestants[0].threads
        calls = sum(part.calls for part in self.parts.values())
        barrier = max(0.0, self.call_seconds[now] - self.call_seconds[1])
        each = barrier / math.log2(now) if now > 1 else 0.0
        inside = sum(self.seconds(part) for part in self.parts)
        divided = max(0.0, inside - calls * self.call_seconds[now])
        fixed = max(0.0, self.rest) + calls * (self.call_seconds[1] + each * math.log2(threads))
        return statistics.median(self.plain) / (fixed + divided * now / threads)


def make_side(job: Job) -> OurSide:
    """Make our side of whole steps, in this process."""
    side = OurSide()
    with tempfile.TemporaryDirectory(prefix="profile-step-") as folder:
        side.prepare(job.request(job.contestants[0]), folder)
    return side


def verify(job: Job) -> tuple[OurSide, dict[str, Part]]:
    """Show that the timers change no loss and miss no product; return a side and its work.

    Raises
    ------
    ValueError
        If the losses are not the same, to the bit, or an update has too few operations.
    """
    expected = make_side(job).updates(VERIFIED_UPDATES)["losses"]
    side, counter = make_side(job), Counter()
    with ops.watching(counter):
        found = side.updates(1)["losses"]
    with ops.watching(Timer()):
        found += side.updates(VERIFIED_UPDATES - 1)["losses"]
    if found != expected:
        raise ValueError(f"the losses are {found} with timers and {expected} without")
    counted, least = sum(part.flops for part in counter.parts.values()), job.size.product_flops
    if counted < least:
        raise ValueError(f"the timers saw {counted} operations of an update, expected {least}")
    return side, counter.parts


def smallest_call() -> float:
    """Return the seconds of an operation that has next to nothing to do."""
    one = np.zeros(1, np.float32)
    best, end = math.inf, perf_counter() + CALL_SECONDS
    while perf_counter() < end:
        start = perf_counter()
        for _ in range(10):
            ops.fill(one, 0.0)
        best = min(best, (perf_counter() - start) / 10)
    return best


def measure(job: Job) -> Profile:
    """Verify, then alternate plain and timed updates, with the bounds in each round."""
    threads = job.contestants[0].threads
    side, parts = verify(job)
    profile = Profile(job, Bounds(threads), parts)
    steps = job.steps or max(1, round(ROUND_SECONDS / side.updates(1)["seconds"]))
    for number in range(job.rounds):
        say(f"round {number + 1} of {job.rounds}, {steps} updates without and with timers")
        profile.bounds.measure(BOUND_SECONDS)
        profile.plain.append(side.updates(steps)["seconds"] / steps)
        timer = Timer()
        with ops.watching(timer):
            profile.timed.append(side.updates(steps)["seconds"] / steps)
        for name, part in parts.items():
            part.seconds.append(timer.seconds[name] / steps)
    for count in (1, threads):
        ops.set_threads(count)
        profile.call_seconds[count] = smallest_call()
    return profile


def as_json(profile: Profile) -> dict[str, Any]:
    """Return the figures as the document of ``--json``."""
    whole = statistics.median(profile.plain)
    return {
        "shape": str(profile.job.size),
        "precision": profile.precision,
        "activation_checkpointing": profile.job.contestants[0].activation_checkpointing,
        "threads": profile.job.contestants[0].threads,
        "machine": describe(),
        "engine": ops.engine(),
        **profile.bounds.as_json(),
        "step_seconds": whole,
        "step_seconds_with_timers": statistics.median(profile.timed),
        "call_seconds": profile.call_seconds,
        "parts": {
            name: {
                "seconds": profile.seconds(name),
                "share": profile.seconds(name) / whole,
                "calls": part.calls,
                "unit": UNIT[bound_of(name)],
                "rate": profile.rate(name),
                "of_bound": profile.of_bound(name),
            }
            for name, part in profile.parts.items()
        },
        "rest": {"seconds": profile.rest, "share": profile.rest / whole},
        "derived_speed_up": {n: profile.derived_speed_up(n) for n in EXPECTED_AT},
    }


def table(profile: Profile) -> str:
    """Lay the results out for reading."""
    whole, threads = statistics.median(profile.plain), profile.job.contestants[0].threads
    extra = statistics.median(profile.timed) / whole - 1
    lines = [
        *profile.bounds.lines(),
        f"an update takes {whole * 1e3:.2f} ms; the timers add {extra:.1%}",
        "",
        f"{'part':16}{'share':>8}{'ms':>10}{'calls':>8}{'rate':>10}  {'unit':8}{'of bound':>9}",
    ]
    for name, part in sorted(profile.parts.items(), key=lambda pair: -profile.seconds(pair[0])):
        lines.append(
            f"{name:16}{profile.seconds(name) / whole:8.1%}{profile.seconds(name) * 1e3:10.3f}"
            f"{part.calls:8}{profile.rate(name):10.1f}  {UNIT[bound_of(name)]:8}"
            f"{profile.of_bound(name):9.0%}"
        )
    lines.append(f"{'rest (Python)':16}{profile.rest / whole:8.1%}{profile.rest * 1e3:10.3f}")
    calls = ", ".join(f"{s * 1e6:.1f} us on {n}" for n, s in profile.call_seconds.items())
    lines += ["", f"the smallest call, by threads: {calls}"]
    for n in (n for n in EXPECTED_AT if n > threads):
        lines.append(
            f"derived, not measured: {profile.derived_speed_up(n):.1f} times as fast on {n} "
            f"threads as on {threads}, if memory grows with the threads"
        )
    return "\n".join(lines)


def run(
    size: SizeName = "char-tiny",
    precision: ElementType = Precision.fp32,
    activation_checkpointing: Checkpointing = "none",
    steps: Steps = 0,
    rounds: Rounds = 5,
    threads: Threads = 0,
    bias: Bias = True,
    json_file: JsonFile = None,
) -> None:
    """Show what share of an update each part takes, and how far it is from its bound."""
    threads = threads or usable_cores()
    try:
        shape = parse_size(size)
        ours = contestants(shape, threads, precision, activation_checkpointing)[:1]
        job = Job(shape, bias, ours, steps=steps, rounds=rounds)
    except ValueError as error:
        stop(str(error), 2)
    load = warn_if_busy(threads)
    try:
        profile = measure(job)
    except (UnavailableError, ValueError) as error:
        stop(str(error), 1)
    print(f"{size}: {job.size}, {precision.value}, {threads} threads, {rounds} rounds")
    print(table(profile))
    write_json(json_file, {"size": size, "load_before": load} | as_json(profile))


if __name__ == "__main__":
    typer.run(run)
