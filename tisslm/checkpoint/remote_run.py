"""The run directory as ranks see it that do not write: a place on another host, perhaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from tisslm.config.metric_types import Metric

__all__ = ["RemoteRun"]


@final
class RemoteRun:
    """Where rank 0 writes; what it does to its ``RunDirectory`` is nothing here.

    Parameters
    ----------
    path : str or Path
        On rank 0's host.
    checkpoint_dir : str
        Relative to the run directory.

    Attributes
    ----------
    made : bool
        Never: nothing may be written by this process.
    known : set of str
        Empty.
    """

    def __init__(self, path: str | Path, checkpoint_dir: str) -> None:
        self.path = Path(path)
        self.checkpoint_dir = checkpoint_dir
        self.made = False
        self.known: set[str] = set()

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, on rank 0's host."""
        return self.path / self.checkpoint_dir

    def make(self) -> None:
        """Do nothing."""

    def confirm(self) -> None:
        """Do nothing."""

    def confirm_checkpoints(self) -> Path:
        """Return the folder; nothing is made on this host."""
        return self.checkpoints

    def recover(self) -> bool:
        """Tell that nothing can be saved from here."""
        return False

    def clean(self) -> None:
        """Do nothing."""

    def refuse_strangers(self) -> None:
        """Do nothing."""

    def write_config(self, settings: Mapping[str, Any]) -> None:
        """Do nothing."""

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Do nothing."""

    def write_declared(self, metrics: Sequence[Metric]) -> None:
        """Do nothing."""

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Do nothing."""
