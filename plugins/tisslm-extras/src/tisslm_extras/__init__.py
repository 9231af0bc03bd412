"""The hook module of the extras plugin. Its parts are in ``wsd.py`` and ``z_loss.py``."""

from __future__ import annotations

from collections.abc import Iterable

from tisslm import Entry, hookimpl

__all__ = ["tisslm_losses", "tisslm_schedulers"]


@hookimpl
def tisslm_schedulers() -> Iterable[Entry]:
    """Yield wsd."""
    yield Entry("wsd", "tisslm_extras.wsd:WSD", "warm up, stay, decay (arXiv 2404.06395)")


@hookimpl
def tisslm_losses() -> Iterable[Entry]:
    """Yield z_loss."""
    yield Entry(
        "z_loss",
        "tisslm_extras.z_loss:ZLoss",
        "cross-entropy that keeps the softmax normalizer near 1 (arXiv 2204.02311)",
    )
