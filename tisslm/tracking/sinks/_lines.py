"""A run as plain lines, for files, pipes and CI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from tisslm.config.metric_types import Metric
from tisslm.tracking.sinks._forgiving import Forgiving
from tisslm.tracking.sinks._line import describe, position

__all__ = ["Lines"]


@final
class Lines:
    """About a hundred lines of a run's training, and every other line.

    Parameters
    ----------
    stream : Forgiving
    max_steps : int
        0 if unknown.
    every : int
        Steps between two lines of training; 0 gives about a hundred.
    own : sequence of Metric
        The metrics that the parts of the run declare.
    """

    def __init__(
        self, stream: Forgiving, max_steps: int, every: int, own: Sequence[Metric] = ()
    ) -> None:
        self._own = own
        self._stream = stream
        self._max_steps = max_steps
        self._every = every or _interval(max_steps)
        self._is_first = True

    def update(self, step: int, metrics: Mapping[str, Any], left: float | None) -> None:
        """Write a line of the metrics, if it is their turn: the first and the last have one."""
        if "train/loss" not in metrics:
            return
        if self._is_first or step == self._max_steps or step % self._every == 0:
            self.say(f"{position(step, self._max_steps)} | {describe(metrics, left, self._own)}")
        self._is_first = False

    def say(self, line: str) -> None:
        """Write a line."""
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def aside(self, line: str) -> None:
        """Write a line of a text."""
        self.say(line)

    def close(self) -> None:
        """End."""


def _interval(max_steps: int) -> int:
    """Return the steps between two lines: 1, 2 or 5 times a power of ten."""
    wanted = max_steps / 100 if max_steps > 0 else 10
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power >= wanted:
                return factor * power
        power *= 10
