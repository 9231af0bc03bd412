"""What a viewer needs of a file in Chrome's trace event format, checked without one.

The fields are those of "Trace Event Format", the document of Chromium's trace viewer, for the two
kinds of event that a profile has. Beyond the format, viewers need that two slices of one track
either lie one within the other or do not meet; Perfetto drops the others.

What does not live here: a viewer (``profiling/test_perfetto.py``).
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Complete(_Strict):
    """A slice."""

    ph: Literal["X"]
    name: Annotated[str, Field(min_length=1)]
    cat: Annotated[str, Field(min_length=1)]
    pid: int
    tid: int
    ts: Annotated[float, Field(ge=0)]
    dur: Annotated[float, Field(ge=0)]
    args: dict[str, int | float | str]


class Metadata(_Strict):
    """The name of a process or track, or the place of a track."""

    ph: Literal["M"]
    name: Literal["process_name", "thread_name", "thread_sort_index"]
    pid: int
    tid: int
    ts: float
    args: dict[Literal["name", "sort_index"], int | str]


class Trace(_Strict):
    """A file in the JSON object form."""

    traceEvents: list[Annotated[Complete | Metadata, Field(discriminator="ph")]]
    displayTimeUnit: Literal["ms", "ns"]
    otherData: dict[str, int | float | str]


def check_trace(text: str) -> Trace:
    """Return the trace that a text is; a ValueError says what a viewer would stumble over."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in items}) < len(items):
            raise ValueError(f"a key is there twice: {items}")
        return dict(items)

    trace = TypeAdapter(Trace).validate_python(json.loads(text, object_pairs_hook=pairs))
    named, tracks = set(), defaultdict(list)
    for event in trace.traceEvents:
        if isinstance(event, Complete):
            tracks[event.pid, event.tid].append(event)
        elif event.name == "thread_name":
            named.add((event.pid, event.tid))
    if set(tracks) - named:
        raise ValueError(f"tracks without a name: {set(tracks) - named}")
    for events in tracks.values():
        check_nesting(events)
    return trace


def check_nesting(events: list[Complete]) -> None:
    """Raise ValueError for slices of one track that overlap without one holding the other."""
    open_until: list[tuple[float, str]] = []
    for event in sorted(events, key=lambda event: (event.ts, -event.dur)):
        while open_until and open_until[-1][0] <= event.ts:
            open_until.pop()
        end = event.ts + event.dur
        if open_until and end > open_until[-1][0]:
            raise ValueError(f"{event.name} at {event.ts} ends after {open_until[-1][1]}")
        open_until.append((end, event.name))
