"""What a profile is for whoever reads it."""

from __future__ import annotations

from dataclasses import dataclass

from tisslm.tracking.profiling.records import Recording
from tisslm.tracking.profiling.table import table

__all__ = ["Profile"]


@dataclass
class Profile(Recording):
    """The steps that were recorded, and where their time goes."""

    def table(self) -> str:
        """Return where the time goes, for reading."""
        return table(self)
