"""What a board remembers of a run: a few numbers, curves of bounded size, the last texts.

What does not live here: how it is drawn (``board``), and where it comes from (a sink's ``write``,
or ``tail``).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Final, final

from tisslm.config.metric_types import Metric
from tisslm.contracts.metric_values import Text

__all__ = ["LARGEST", "Curve", "History"]

#: Points that a curve keeps at least; at twice as many, neighbours become one.
POINTS: Final = 1024

#: Values from which on means and differences may be no numbers.
LARGEST: Final = 1e300

#: Lines of messages and speeds that are kept.
_MESSAGES = 200
_SPEEDS = 120

#: Step times that the time left is estimated from.
_TIMES = 50


@final
class Curve:
    """Values by step, in bounded memory: older detail is lost evenly over the whole run.

    Attributes
    ----------
    points : list of (step, value)
        Finite; steps ascend.
    """

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self._width = 1
        self._pending: list[tuple[float, float]] = []

    def add(self, step: float, value: float) -> None:
        """Add a value; one that is not finite, or nearly so, has no place on a curve."""
        if not abs(value) < LARGEST:
            return
        self._pending.append((step, value))
        if len(self._pending) < self._width:
            return
        self.points.append(_mean(self._pending))
        self._pending = []
        if len(self.points) >= 2 * POINTS:
            self.points = [_mean(self.points[i : i + 2]) for i in range(0, 2 * POINTS, 2)]
            self._width *= 2

    @property
    def newest(self) -> list[tuple[float, float]]:
        """The points, with what is not enough for a whole one at their end."""
        return [*self.points, _mean(self._pending)] if self._pending else self.points


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return points[-1][0], sum(value for _, value in points) / len(points)


@final
class History:
    """What is known of a run.

    Parameters
    ----------
    own : sequence of Metric
        The metrics that the parts of the run declare.

    Attributes
    ----------
    step : int
        The last one that was reported.
    latest : dict of str to float
        The last value of each metric.
    loss, evaluations : Curve
        The losses of training and of validation.
    speeds : deque of float
        The last tokens per second.
    best : tuple of (step, loss), optional
        The lowest validation loss.
    samples : dict of str to (step, text)
        The last text of each name.
    messages : deque of str
    """

    def __init__(self, own: Sequence[Metric] = ()) -> None:
        self.own = tuple(own)
        self.step = 0
        self.latest: dict[str, float] = {}
        self.loss, self.evaluations = Curve(), Curve()
        self.speeds: deque[float] = deque(maxlen=_SPEEDS)
        self.best: tuple[int, float] | None = None
        self.samples: dict[str, tuple[int, str]] = {}
        self.messages: deque[str] = deque(maxlen=_MESSAGES)
        self._times: deque[float] = deque(maxlen=_TIMES)

    def record(self, step: int, metrics: Mapping[str, object]) -> None:
        """Take the metrics of a step; what is neither a number nor a text is left out."""
        self.step = max(self.step, step)
        for name, value in metrics.items():
            if isinstance(value, Text):
                self.samples.pop(name, None)  # so that the newest is the last
                self.samples[name] = step, value.text
            elif isinstance(value, Real):
                self.latest[name] = float(value)
        found = {name: self.latest[name] for name in metrics if name in self.latest}
        if "train/loss" in found:
            self.loss.add(step, found["train/loss"])
        if abs(found.get("train/tokens_per_second", math.nan)) < LARGEST:
            self.speeds.append(found["train/tokens_per_second"])
        if 0.0 < found.get("train/step_time_ms", 0.0) < LARGEST:
            self._times.append(found["train/step_time_ms"])
        if "eval/loss" in found:
            self._evaluated(step, found["eval/loss"])

    def _evaluated(self, step: int, loss: float) -> None:
        self.evaluations.add(step, loss)
        if math.isfinite(loss) and (self.best is None or loss < self.best[1]):
            self.best = step, loss

    def say(self, line: str) -> None:
        """Remember a message."""
        self.messages.append(line)

    def seconds_left(self, max_steps: int) -> float | None:
        """Return the steps that are left times the mean of the last step times, None if unknown."""
        left = max_steps - self.step
        if left <= 0 or not self._times:
            return None
        return left * sum(self._times) / len(self._times) / 1e3
