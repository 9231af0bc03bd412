"""A profile as a file that opens in https://ui.perfetto.dev and in chrome://tracing.

The format is Chrome's trace events in their JSON object form: complete events ("X") with ts and dur
in microseconds, and metadata ("M") that names the tracks. The first is Python's thread, on which
steps hold places, and places hold kernels. The next T are the kernels' threads, each with its
share of every parallel loop; the first of them is Python's thread once more, seen from within.

Viewers refuse slices of one track that overlap without one holding the other, and read decimals
as they please. So every time is rounded down to 1/8 us, which a binary fraction holds exactly:
rounding keeps the order, and sums come out even.

References
----------
"Trace Event Format", the document of Chromium's trace viewer.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tisslm.ops.cost import part_of
from tisslm.system.durable import replacing
from tisslm.tracking.profiling.records import Call, Recording, Step

__all__ = ["events", "write_trace"]

GRAIN = 125  # ns


def write_trace(path: Path, profile: Recording) -> None:
    """Write a profile's trace, replacing what is there at once.

    Parameters
    ----------
    path : Path
    profile : Recording

    Raises
    ------
    OSError
        If the disk refuses it; what was there is untouched.
    """
    head = {"displayTimeUnit": "ms", "otherData": dict(profile.about)}
    with replacing(path) as file:
        file.write((json.dumps(head)[:-1] + ', "traceEvents": [').encode())
        for number, event in enumerate(events(profile)):
            file.write(((",\n" if number else "\n") + json.dumps(event)).encode())
        file.write(b"\n]}\n")


def events(profile: Recording) -> Iterator[dict[str, Any]]:
    """Yield the trace events of a profile; time 0 is the beginning of its first step."""
    pid, python, origin = os.getpid(), threading.get_native_id(), profile.steps[0].start
    yield _metadata(pid, python, "process_name", name="tisslm train")
    tracks = {python: "Python"}
    tracks |= {python + 1 + i: f"kernel thread {i}" for i in range(profile.threads)}
    if any(step.exchanges for step in profile.steps):
        tracks[python + 1 + profile.threads] = "exchange"
    for place, (tid, name) in enumerate(tracks.items()):
        yield _metadata(pid, tid, "thread_name", name=name)
        yield _metadata(pid, tid, "thread_sort_index", sort_index=place)
    for step in profile.steps:
        for thread, name, category, start, end, args in _slices(step, profile.threads):
            begin = (start - origin) // GRAIN
            yield {
                "ph": "X",
                "name": name,
                "cat": category,
                "pid": pid,
                "tid": python if thread is None else python + 1 + thread,
                "ts": begin * GRAIN / 1000,
                "dur": ((end - origin) // GRAIN - begin) * GRAIN / 1000,
                "args": args,
            }


def _metadata(pid: int, tid: int, kind: str, **args: object) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": args}


def _slices(
    step: Step, threads: int
) -> Iterator[tuple[int | None, str, str, int, int, dict[str, object]]]:
    """Yield thread, name, category, start, end and details of all slices, outer ones first.

    The thread is that of the kernels, and None for what Python sees; the one behind those of the
    kernels exchanges gradients and weights with other ranks.
    """
    yield None, f"step {step.number}", "step", step.start, step.end, {}
    for span in sorted(step.spans, key=lambda span: (span.start, -span.end)):
        yield None, span.name, "place", span.start, span.end, {}
    for call in step.calls:
        category = part_of(call.operation)
        yield None, call.operation, category, call.start, call.end, _details(call, threads)
        for share in call.shares:
            yield share.thread, call.operation, category, share.start, share.end, {}
    for span in step.exchanges:
        yield threads, span.name, "exchange", span.start, span.end, {}


def _details(call: Call, threads: int) -> dict[str, object]:
    """Return what is shown when a kernel is clicked."""
    nanoseconds = max(1, call.end - call.start)
    found: dict[str, object] = {"place": call.place}
    if call.direction:
        found["direction"] = call.direction
    if call.flops:
        found["GFLOP/s"] = round(call.flops / nanoseconds, 3)
    found["GB/s"] = round(call.nbytes / nanoseconds, 3)
    found |= {"flops": call.flops, "bytes": call.nbytes, "arrays": call.arrays}
    if call.shares:
        found["threads busy"] = round(call.busy / (threads * nanoseconds), 4)
    return found
