"""The hook module of the TensorBoard plugin. The sink is in ``sink.py``."""

from __future__ import annotations

from collections.abc import Iterable

from tisslm import Entry, hookimpl

__all__ = ["tisslm_sinks"]


@hookimpl
def tisslm_sinks() -> Iterable[Entry]:
    """Yield tensorboard."""
    yield Entry(
        "tensorboard",
        "tisslm_tensorboard.sink:TensorBoardSink",
        "TensorBoard event files: numbers, histograms, texts",
    )
