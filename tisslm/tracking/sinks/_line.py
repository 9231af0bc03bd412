"""Metrics as one line of text for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tisslm.config.metric_types import Metric
from tisslm.contracts.metric_values import Text
from tisslm.system.quantities import duration_text
from tisslm.tracking.metrics import line_text, lookup
from tisslm.tracking.terminal.words import printable

__all__ = ["describe", "describe_evaluation", "describe_samples", "position"]


def position(step: int, max_steps: int) -> str:
    """Return where a run is, such as ``step   500/5000 (10.0%)``."""
    if max_steps <= 0:
        return f"step {step:>5}"
    width = max(5, len(str(max_steps)))
    return f"step {step:>{width}}/{max_steps} ({100 * step / max_steps:.1f}%)"


def describe(metrics: Mapping[str, Any], eta: float | None, own: Iterable[Metric] = ()) -> str:
    """Return the metrics of training that fit on a line; those that are missing are left out.

    Parameters
    ----------
    metrics : mapping
    eta : float, optional
        Seconds that the run will still take.
    own : iterable of Metric
        The metrics that the parts of the run declare.
    """
    parts = [
        line_text(known, metrics[name])
        for name, known in lookup(own).items()
        if name in metrics and known.line and known.group != "eval"
    ]
    if eta is not None:
        parts.append(f"eta {duration_text(eta)}")
    return " | ".join(parts)


def describe_evaluation(metrics: Mapping[str, Any]) -> str:
    """Return the metrics of an evaluation, without how long it took; empty if there are none."""
    known, shown = lookup(), []
    for name, value in metrics.items():
        if name[:5] != "eval/" or isinstance(value, Text):
            continue
        if name not in known:
            shown.append(f"eval {name.removeprefix('eval/')} {value:.4f}")
        elif known[name].line:
            shown.append(f"eval {line_text(known[name], value)}")
    return " | ".join(shown)


def describe_samples(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the texts among the metrics, each text below its name."""
    for name, value in metrics.items():
        if isinstance(value, Text):
            yield f"{printable(name)}:"
            yield from (f"    {line}" for line in printable(value.text).split("\n"))
