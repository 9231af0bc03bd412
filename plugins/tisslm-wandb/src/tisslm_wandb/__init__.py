"""The hook module of the Weights & Biases plugin. The sink is in ``sink.py``."""

from __future__ import annotations

from collections.abc import Iterable

from tisslm import Entry, hookimpl

__all__ = ["tisslm_sinks"]


@hookimpl
def tisslm_sinks() -> Iterable[Entry]:
    """Yield wandb."""
    yield Entry(
        "wandb",
        "tisslm_wandb.sink:WandbSink",
        "Weights & Biases, offline unless asked: numbers, histograms, texts",
    )
