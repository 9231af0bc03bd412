"""Types of the settings of ``[training]`` that say when a run leaves, and how it saves.

What does not live here: the keys themselves (``training``), and reading durations (``leaving``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from tisslm.config.fields import Expects
from tisslm.errors import ConfigError
from tisslm.time_limits import parse_duration

__all__ = ["Duration", "OnSaveError"]


def _duration(value: float | str) -> float | str:
    if value != "":
        try:
            parse_duration(value)
        except ConfigError as error:
            raise ValueError("not a duration") from error
    return value


Duration = Annotated[
    int | float | str,
    AfterValidator(_duration),
    Expects('a duration such as "3h30m" or "90s", or a number of seconds > 0', '"" sets no limit'),
]
OnSaveError = Annotated[Literal["continue", "stop"], Expects('"continue" or "stop"')]
