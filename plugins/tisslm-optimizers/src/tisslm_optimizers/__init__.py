"""The hook module: optimizers from their papers, in a module each."""

from __future__ import annotations

from collections.abc import Iterable

from tisslm import Entry, hookimpl

__all__ = ["tisslm_optimizers"]


@hookimpl
def tisslm_optimizers() -> Iterable[Entry]:
    """Yield the optimizers."""
    yield Entry(
        "muon",
        "tisslm_optimizers.muon:Muon",
        "orthogonalized momentum for matrices, AdamW for the rest (Jordan and others, 2024)",
    )
    yield Entry(
        "adafactor",
        "tisslm_optimizers.adafactor:Adafactor",
        "second moments of matrices by row and column (arXiv 1804.04235)",
    )
    yield Entry(
        "schedule_free_adamw",
        "tisslm_optimizers.schedule_free:ScheduleFreeAdamW",
        "AdamW with an average in place of a schedule (arXiv 2405.15682)",
    )
    yield Entry(
        "lamb",
        "tisslm_optimizers.lamb:Lamb",
        "AdamW's direction, as long as a share of each map (arXiv 1904.00962)",
    )
    yield Entry(
        "adam8bit",
        "tisslm_optimizers.adam8bit:Adam8bit",
        "AdamW with means of a byte each (arXiv 2110.02861)",
    )
