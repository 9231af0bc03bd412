"""The hook module of the Prometheus plugin. The sink is in ``sink.py``."""

from __future__ import annotations

from collections.abc import Iterable

from tisslm import Entry, hookimpl

__all__ = ["tisslm_sinks"]


@hookimpl
def tisslm_sinks() -> Iterable[Entry]:
    """Yield prometheus."""
    yield Entry(
        "prometheus",
        "tisslm_prometheus.sink:PrometheusSink",
        "an HTTP endpoint for Prometheus: numbers, histograms as summaries",
    )
