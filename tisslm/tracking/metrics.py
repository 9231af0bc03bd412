"""How metrics are written for people, by the table of metrics and what the parts of a run declare.

What does not live here: the table (``tisslm.config.metrics``), and where and when a metric is
shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tisslm.config.metric_types import Metric
from tisslm.config.metrics import METRICS
from tisslm.system.quantities import count_text, short_text, step_time_text

__all__ = ["line_text", "lookup", "value_text"]


class _Number(float):
    """A number that knows the formats of metrics, beside those of Python."""

    def __format__(self, specification: str) -> str:
        write = _WRITERS.get(specification)
        return super().__format__(specification) if write is None else write(float(self))


_WRITERS: Mapping[str, Callable[[float], str]] = {
    "count": count_text,
    "gflops": lambda tera: f"{1e3 * tera:.0f} GFLOP/s",
    "ms": lambda ms: step_time_text(ms / 1e3),
    "norm": lambda x: f"{x:.2f}" if x < 1e4 else f"{x:.1e}",
    "rate": lambda tokens_per_second: f"{count_text(tokens_per_second)} tok/s",
    "short": short_text,
}


def lookup(own: Iterable[Metric] = ()) -> dict[str, Metric]:
    """Return what is known of every metric of a run, by name.

    Parameters
    ----------
    own : iterable of Metric
        The metrics that the parts of the run declare.
    """
    return METRICS | {metric.name: metric for metric in own}


def line_text(metric: Metric, value: float) -> str:
    """Return a metric with its name as the console's line has it."""
    return metric.line.format(_Number(value))


def value_text(metric: Metric, value: float) -> str:
    """Return a metric's value as the live screen has it."""
    text = metric.format.format(_Number(value))
    return f"{text} {metric.unit}" if metric.unit else text
