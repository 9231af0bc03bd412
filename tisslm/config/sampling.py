"""Types of the settings of ``[training]`` that say which texts are sampled on the way.

What does not live here: the keys themselves (``training``), and sampling (``samples``).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from tisslm.config.fields import Expects

__all__ = ["Prompts"]


def _prompts(value: object) -> object:
    """Read one string as one prompt: commas belong to it."""
    if isinstance(value, str):
        return [value]
    return list(value) if isinstance(value, tuple) else value


Prompts = Annotated[
    list[str],
    BeforeValidator(_prompts),
    Field(min_length=1),
    Expects("a list of strings with at least one", "sample_every = 0 switches samples off"),
]
