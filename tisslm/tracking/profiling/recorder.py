"""Records one step: each kernel call with its place, its time and its threads.

What is on the clock is kept short: a call leaves a tuple, and what it means is worked out when the
step is over.

Which steps are recorded is decided by ``profiler``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter_ns
from typing import Any

import numpy as np

from tisslm.contracts import PassObserver
from tisslm.contracts.pass_observer import Direction
from tisslm.ops import cost
from tisslm.ops.watchers import Watcher
from tisslm.tracking.profiling.records import OUTSIDE, Call, Span, Step
from tisslm.tracking.profiling.regions import Regions

__all__ = ["Recorder"]


class Recorder(PassObserver, Watcher):
    """Watches ``ops`` and a model's pass, and makes steps of what it sees.

    Parameters
    ----------
    regions : Regions
        Being written to while steps are recorded.
    """

    def __init__(self, regions: Regions) -> None:
        self._regions = regions
        self._texts: dict[str, str] = {}
        self._clear()

    def _clear(self) -> None:
        self._open: list[tuple[str, str, int]] = []
        self._place = OUTSIDE, ""
        self._spans: list[Span] = []
        self._calls: list[tuple[str, tuple[str, str], int, int, tuple[Any, ...], bytes]] = []
        self._call_start = 0
        self._exchanges: Sequence[Span] = ()

    def begin(self) -> None:
        """Begin a step."""
        self._clear()
        self._regions.take()  # drops the regions of kernels that nobody watched
        self._step_start = perf_counter_ns()

    def end(self, number: int) -> Step:
        """End the step; return it.

        Parameters
        ----------
        number : int
            The update that it was to make.
        """
        end = perf_counter_ns()
        calls = [self._understood(*call) for call in self._calls]
        step = Step(number, self._step_start, end, self._spans, calls, self._exchanges)
        self._clear()  # lets the arrays of the calls go
        return step

    def note_exchanges(self, spans: Sequence[Span]) -> None:
        """Note what a thread has exchanged with other ranks, as far as it was in this step."""
        begun = self._step_start
        self._exchanges = [replace(s, start=max(s.start, begun)) for s in spans if s.end > begun]

    # ------------------------------------------------------------------ places

    def enter(self, place: str, direction: Direction) -> None:
        """Note that a layer begins."""
        self._enter(place, direction)

    def leave(self, place: str, direction: Direction, arrays: Mapping[str, Any]) -> None:
        """Note that it has ended."""
        self._leave()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Note what goes on inside the ``with`` block by name."""
        self._enter(name, "")
        yield
        self._leave()

    def _enter(self, place: str, direction: str) -> None:
        self._place = place, direction
        self._open.append((place, direction, perf_counter_ns()))

    def _leave(self) -> None:
        end = perf_counter_ns()
        place, direction, start = self._open.pop()
        self._spans.append(Span(place, direction, start, end))
        self._place = self._open[-1][:2] if self._open else (OUTSIDE, "")

    # ------------------------------------------------------------------ operations

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        """Note that an operation begins."""
        self._call_start = perf_counter_ns()

    def after(self, op: str, args: tuple[Any, ...]) -> None:
        """Note that it has ended."""
        end = perf_counter_ns()
        if "embedding" in op or "attention" in op:
            # work depends on ids and on starts, which the next batch overwrites
            args = tuple(a.copy() if _is_ids(a) else a for a in args)
        call = (op, self._place, self._call_start, end, args, self._regions.take())
        self._calls.append(call)

    def _understood(
        self,
        op: str,
        place: tuple[str, str],
        start: int,
        end: int,
        args: tuple[Any, ...],
        taken: bytes,
    ) -> Call:
        """Return a call with its work and its threads."""
        arguments = cost.named(op, args)
        text = cost.shapes(arguments)
        return Call(
            op,
            *place,
            start,
            end,
            cost.flops(op, arguments),
            cost.nbytes(op, arguments),
            self._texts.setdefault(text, text),  # the same few, thousands of times
            self._regions.shares(taken),
        )


def _is_ids(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "i" and value.ndim == 2
