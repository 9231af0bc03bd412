"""Types of the settings of ``[training]`` that say what observers of a run do.

What does not live here: the keys themselves (``training``), and the observers.
"""

from __future__ import annotations

from typing import Annotated, Literal

from tisslm.config.fields import Expects

__all__ = ["OnSinkError"]

OnSinkError = Annotated[Literal["disable", "fail"], Expects('"disable" or "fail"')]
