"""A run from its first step to its last, and when it is saved."""

from __future__ import annotations

from tisslm.training.loop.loop import Loop

__all__ = ["Loop"]
