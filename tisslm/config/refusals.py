"""Types of the settings of ``[training]`` that say which steps are not applied, and what follows.

What does not live here: the keys themselves (``training``), and the decision (``guard``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tisslm.config.fields import Expects, whole

__all__ = ["OnNonfinite", "SpikeAction", "SpikeWindow"]

OnNonfinite = Annotated[Literal["skip", "stop"], Expects('"skip" or "stop"')]

SpikeAction = Annotated[
    Literal["off", "warn", "skip", "stop"], Expects('"off", "warn", "skip" or "stop"')
]

#: A median over fewer losses than this is noise.
SpikeWindow = Annotated[int, BeforeValidator(whole), Field(ge=10), Expects("an integer >= 10")]
