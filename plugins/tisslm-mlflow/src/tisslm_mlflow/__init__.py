"""The hook module of the MLflow plugin. The sink is in ``sink.py``."""

from __future__ import annotations

from collections.abc import Iterable

from tisslm import Entry, hookimpl

__all__ = ["tisslm_sinks"]


@hookimpl
def tisslm_sinks() -> Iterable[Entry]:
    """Yield mlflow."""
    yield Entry(
        "mlflow",
        "tisslm_mlflow.sink:MlflowSink",
        "an MLflow run: numbers, settings, histograms and texts as artifacts",
    )
