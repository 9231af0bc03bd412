"""Generating text: choosing tokens one by one, for several prompts at once, and decoding them."""

from __future__ import annotations

from tisslm.models.generation.running import Generation, generate, stream
from tisslm.models.generation.sampling import Sampling
from tisslm.models.generation.text import (
    Pieces,
    Stops,
    beginning,
    opening,
    pieces,
    sample,
    samples,
)

__all__ = [
    "Generation",
    "Pieces",
    "Sampling",
    "Stops",
    "beginning",
    "generate",
    "opening",
    "pieces",
    "sample",
    "samples",
    "stream",
]
