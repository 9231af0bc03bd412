"""Watchers of ``tisslm.ops`` that count each part's work, or take its time.

What does not live here: how much work a call is (``tisslm.ops.cost``), whole steps, and single
calls with their places (``tisslm.tracking.profiling``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import clone  # noqa: F401 (finds tisslm)

from tisslm.ops.cost import flops, named, nbytes, part_of
from tisslm.ops.watchers import Watcher

__all__ = ["Counter", "Part", "Timer"]


@dataclass
class Part:
    """One part of a step: sums over the calls of one update.

    Attributes
    ----------
    calls, flops, nbytes : int
    seconds : list of float
        One figure for each round.
    """

    calls: int = 0
    flops: int = 0
    nbytes: int = 0
    seconds: list[float] = field(default_factory=list)


class Counter(Watcher):
    """Counts calls and work, by part."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        """Count a call."""
        part, arguments = self.parts.setdefault(part_of(op), Part()), named(op, args)
        part.calls += 1
        part.flops += flops(op, arguments)
        part.nbytes += nbytes(op, arguments)


class Timer(Watcher):
    """Adds up the seconds of each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = 0.0

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        """Begin a call."""
        self._start = perf_counter()

    def after(self, op: str, args: tuple[Any, ...]) -> None:
        """End it."""
        seconds, part = perf_counter() - self._start, part_of(op)
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds
