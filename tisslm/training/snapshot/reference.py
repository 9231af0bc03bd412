"""The owner of what preferences are compared with."""

from __future__ import annotations

from pathlib import Path

from tisslm.checkpoint import REFERENCE, Checkpoint
from tisslm.training.snapshot.owner import Contents, StateOwner
from tisslm.training.state import TrainerState

__all__ = ["ReferenceOwner"]


class ReferenceOwner(StateOwner):
    """What the model said of all preferences before its first step."""

    files = (REFERENCE,)

    def take(self, state: TrainerState) -> Contents:
        """Return it, as far as it is known: 16 bytes a pair."""
        reference = self.run.parts.reference
        arrays = {} if reference is None else reference.arrays
        return {REFERENCE: arrays} if arrays else {}

    def check(self, found: Checkpoint, where: Path) -> None:
        """Check that it has a row for each pair, where the pairs are those of the run."""
        reference = self.run.parts.reference
        if reference is not None and REFERENCE in found.files:
            reference.check(found[REFERENCE], str(where / REFERENCE.name))

    def put(self, found: Checkpoint, state: TrainerState, where: Path) -> None:
        """Give it to the pairs."""
        if self.run.parts.reference is not None and REFERENCE in found.files:
            self.run.parts.reference.put(found[REFERENCE])
