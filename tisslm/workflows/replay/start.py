"""Choosing the checkpoint from which a replay begins."""

from __future__ import annotations

import warnings
from pathlib import Path

from tisslm import checkpoint
from tisslm.checkpoint import Found
from tisslm.errors import CheckpointError

__all__ = ["find_start"]


def find_start(checkpoints: Path, step: int, position: int | None = None) -> Found | None:
    """Return the newest checkpoint before a step that verifies, None if there is none.

    Parameters
    ----------
    checkpoints : Path
        Folder of the run's checkpoints.
    step : int
        Number of the update, from 1.
    position : int, optional
        Number of the step's batch: a checkpoint that is beyond it cannot be used, either.

    Warns
    -----
    RuntimeWarning
        If a damaged checkpoint was skipped.
    """
    for path in reversed(checkpoint.list_checkpoints(checkpoints)):
        try:
            manifest = checkpoint.read_manifest(path)
            if manifest.step >= step:
                continue
            found = checkpoint.find(path)
            if position is None or _position(found) <= position:
                return found
        except CheckpointError as error:
            warnings.warn(f"{error}; replaying from an earlier one", RuntimeWarning, stacklevel=2)
    return None


def _position(found: Found) -> int:
    """Return how many batches a run had taken at a checkpoint."""
    state = checkpoint.read(found, [checkpoint.TRAINER])[checkpoint.TRAINER]
    counts = [state.get("global_step"), state.get("skipped_steps", 0)]
    if not all(type(count) is int for count in counts):
        raise CheckpointError(f"{found.path}: not the state of a trainer")
    return sum(counts)
