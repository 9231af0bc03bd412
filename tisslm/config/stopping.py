"""Types of the settings of ``[training]`` that say what is best, and when a run has had enough.

What does not live here: the keys themselves (``training``), and the decision (``stopping``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tisslm.config.fields import Expects, number

__all__ = ["BestMetric", "BestMode", "MinDelta"]

_METRICS = (
    '"eval/loss", "eval/perplexity", "eval/bpb", "eval/accuracy", "eval/top5_accuracy" or '
    '"train/loss"'
)


def _metric(value: object) -> object:
    """Read the names that other trainers give to metrics."""
    known = {"loss": "eval/loss", "val_loss": "eval/loss"}
    if isinstance(value, str) and "/" not in value:
        return known.get(value, value.replace("_", "/", 1))
    return value


BestMetric = Annotated[
    Literal[
        "eval/loss",
        "eval/perplexity",
        "eval/bpb",
        "eval/accuracy",
        "eval/top5_accuracy",
        "train/loss",
    ],
    BeforeValidator(_metric),
    Expects(_METRICS),
]
BestMode = Annotated[Literal["auto", "min", "max"], Expects('"auto", "min" or "max"')]

MinDelta = Annotated[
    float,
    BeforeValidator(number),
    Field(ge=0, allow_inf_nan=False),
    Expects("a finite number >= 0"),
]
