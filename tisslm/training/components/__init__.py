"""The parts of a run: as one record, how it is built, and what its parts must be for each other."""

from __future__ import annotations

from tisslm.training.components.building import Given, Wanted, build_components
from tisslm.training.components.checks import check_kept
from tisslm.training.components.components import Components, describe, named_options

__all__ = [
    "Components",
    "Given",
    "Wanted",
    "build_components",
    "check_kept",
    "describe",
    "named_options",
]
