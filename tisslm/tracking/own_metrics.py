"""The metrics that parts of a run declare and give themselves: a learned temperature, a share.

A part that raises is named and asked no more; it goes on with its work, and so does the run.

What does not live here: what monitors find, which is asked at other steps (``monitoring``).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from numbers import Real
from typing import final

from tisslm.config.metric_types import Metric
from tisslm.config.metrics import METRICS, RESERVED
from tisslm.contracts import Monitor, Stateful
from tisslm.errors import PluginError

__all__ = ["OwnMetrics"]


@final
class OwnMetrics:
    """Ask the parts of a run for the metrics that they declare.

    Parameters
    ----------
    parts : iterable of (str, Stateful)
        Names for messages, and parts. Monitors only declare: what they find is asked elsewhere.

    Attributes
    ----------
    declared : tuple of Metric
        The metrics that all parts declare.
    comparable : tuple of Metric
        The metrics of the parts that are asked here; one of these may be the best metric.

    Raises
    ------
    PluginError
        If a declaration is none, or its name is the Trainer's or another part's.
    """

    def __init__(self, parts: Iterable[tuple[str, Stateful]]) -> None:
        given = list(parts)
        self._asked = [(name, part) for name, part in given if not isinstance(part, Monitor)]
        self.declared = _declared(given)
        names = {metric.name for _, part in self._asked for metric in part.declares}
        self.comparable = tuple(metric for metric in self.declared if metric.name in names)

    def ask(self) -> dict[str, float]:
        """Return the metrics of all parts as they are now."""
        found: dict[str, float] = {}
        for name, part in list(self._asked):
            try:
                found |= _numbers(part)
            except Exception as error:  # an observation must not cost a night of training
                self._asked.remove((name, part))
                warnings.warn(
                    f"the metrics of {name} are switched off: {type(error).__name__}: {error}",
                    RuntimeWarning,
                    stacklevel=3,
                )
        return found


def _numbers(part: Stateful) -> dict[str, float]:
    """Return what a part gives, all of it declared and numbers."""
    known, found = {metric.name for metric in part.declares}, {}
    for name, value in part.metrics().items():
        if name not in known:
            raise PluginError(f"metric {name!r} is not among those that it declares")
        if not isinstance(value, Real):
            raise PluginError(
                f"metric {name!r}: expected a real number, got {type(value).__name__}"
            )
        found[name] = float(value)
    return found


def _declared(parts: Iterable[tuple[str, Stateful]]) -> tuple[Metric, ...]:
    """Return every declaration once, and refuse those that cannot be."""
    found: dict[str, tuple[str, Metric]] = {}
    for who, part in parts:
        for metric in part.declares:
            if not isinstance(metric, Metric):
                raise PluginError(
                    f"{who}: declares: expected tisslm.contracts.Metric, got {metric!r:.60}"
                )
            if metric.group in RESERVED and not (
                isinstance(part, Monitor) and metric.name not in METRICS
            ):
                raise PluginError(
                    f"{who}: metric {metric.name!r}: expected a group of its own, got "
                    f"{metric.group!r}, which the Trainer has; rename it"
                )
            other, same = found.setdefault(metric.name, (who, metric))
            if same != metric:
                raise PluginError(
                    f"{who}: metric {metric.name!r} is declared by {other}, too; rename one of them"
                )
    return tuple(metric for _, metric in found.values())
