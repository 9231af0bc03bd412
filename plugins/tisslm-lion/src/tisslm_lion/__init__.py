"""The hook module of the Lion plugin. The optimizer is in ``lion.py``."""

from __future__ import annotations

from collections.abc import Iterable

from tisslm import Entry, hookimpl

__all__ = ["tisslm_optimizers"]


@hookimpl
def tisslm_optimizers() -> Iterable[Entry]:
    """Yield Lion."""
    yield Entry(
        "lion", "tisslm_lion.lion:Lion", "sign of an interpolated momentum (arXiv 2302.06675)"
    )
