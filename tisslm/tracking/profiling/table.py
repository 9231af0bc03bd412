"""A profile for reading: kernels by the time that they take, and the places that call them."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from tisslm.tracking.profiling.records import OUTSIDE, Call, Recording, Step

__all__ = ["table"]

_BLOCK = re.compile(r"blocks\.\d+\.")


@dataclass
class _Sum:
    """Sums over calls or spans of all steps; times in ns."""

    time: int = 0
    count: int = 0
    flops: int = 0
    nbytes: int = 0
    watched: int = 0  # time of the calls whose threads were watched
    busy: int = 0
    kernels: int = 0  # nanoseconds of the kernels at a place

    def add(self, call: Call) -> None:
        self.time += call.end - call.start
        self.count += 1
        self.flops += call.flops
        self.nbytes += call.nbytes
        if call.shares:
            self.watched += call.end - call.start
            self.busy += call.busy


def table(profile: Recording) -> str:
    """Lay a profile out; all figures are means over its steps, in ms, of one step."""
    steps, whole = len(profile.steps), sum(step.end - step.start for step in profile.steps)
    kernels, places = _by_kernel(profile), _by_place(profile)
    inside = sum(found.time for found in kernels.values())
    lines = [_headline(profile, whole), ""]
    lines.append(f"{'kernel':28}{'ms':>10}{'share':>8}{'calls':>8}{'rate':>9}{'threads busy':>22}")
    for name, found in sorted(kernels.items(), key=lambda pair: -pair[1].time):
        lines.append(_row(name, found.time, steps, whole) + _work(found, steps, profile.threads))
    lines.append(_row("all kernels", inside, steps, whole))
    lines.append(_row("the rest (Python)", whole - inside, steps, whole))
    lines += ["", f"{'place':28}{'ms':>10}{'share':>8}{'times':>8}{'in kernels':>12}"]
    for name, found in places.items():
        share = f"{found.kernels / found.time:12.1%}" if found.time else ""
        times = round(found.count / steps)
        lines.append(_row(name, found.time, steps, whole) + f"{times:8}" + share)
    return "\n".join(line.rstrip() for line in lines)


def _headline(profile: Recording, whole: int) -> str:
    numbers = [step.number for step in profile.steps]
    which = f"step {numbers[0]}"
    if len(numbers) > 1:
        which = f"steps {numbers[0]} to {numbers[-1]}"
    each = f"{whole / len(numbers) / 1e6:.2f} ms{' each' if len(numbers) > 1 else ''}"
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    before = ""
    if profile.plain:
        mean = sum(profile.plain) / len(profile.plain)
        before = f"; without the profile, the step before took {mean * 1e3:.2f} ms"
        if len(profile.plain) > 1:
            before = f"; without the profile, steps before took {mean * 1e3:.2f} ms"
    return f"profile of {which}: {each} on {threads}{before}"


def _row(name: str, time: int, steps: int, whole: int) -> str:
    return f"{name:28}{time / steps / 1e6:10.3f}{time / whole:8.1%}"


def _work(found: _Sum, steps: int, threads: int) -> str:
    work, unit = (found.flops, "GFLOP/s") if found.flops else (found.nbytes, "GB/s")
    busy = f"{found.busy / (threads * found.watched):12.1%}" if found.watched else ""
    return f"{round(found.count / steps):8}{work / max(1, found.time):9.1f}  {unit:8}{busy}"


def _by_kernel(profile: Recording) -> dict[str, _Sum]:
    found: dict[str, _Sum] = defaultdict(_Sum)
    for step in profile.steps:
        for call in step.calls:
            found[call.operation].add(call)
    return found


def _by_place(profile: Recording) -> dict[str, _Sum]:
    """Sum over the blocks; a span counts without those inside it, so that all add up to a step."""
    found: dict[str, _Sum] = defaultdict(_Sum)
    for step in profile.steps:
        rest = step.end - step.start
        for name, own in _own_times(step):
            found[name].time += own
            found[name].count += 1
            rest -= own
        outside = found[OUTSIDE]
        outside.time, outside.count = outside.time + rest, outside.count + 1
        for call in step.calls:
            found[_group(call.place, call.direction)].kernels += call.end - call.start
    last = found.pop(OUTSIDE)
    return {**found, OUTSIDE: last}


def _own_times(step: Step) -> list[tuple[str, int]]:
    """Return the group of each span, and its time without the spans inside it, by their start."""
    spans = sorted(step.spans, key=lambda span: (span.start, -span.end))
    own = [span.end - span.start for span in spans]
    holders: list[int] = []
    for i, span in enumerate(spans):
        while holders and spans[holders[-1]].end <= span.start:
            holders.pop()
        if holders:
            own[holders[-1]] -= span.end - span.start
        holders.append(i)
    groups = [_group(span.place, span.direction) for span in spans]
    return list(zip(groups, own, strict=True))


def _group(place: str, direction: str) -> str:
    """Name a place without the number of its block."""
    return f"{_BLOCK.sub('', place)} {direction}".rstrip()
