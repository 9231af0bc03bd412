"""The owner of the average of the weights."""

from __future__ import annotations

import warnings
from pathlib import Path

from tisslm.checkpoint import EMA, Checkpoint
from tisslm.errors import CheckpointError
from tisslm.optim.weight_average import SLOT
from tisslm.system.tensor_files import kind_of
from tisslm.training.snapshot.owner import Contents, StateOwner
from tisslm.training.state import TrainerState

__all__ = ["AverageOwner"]


class AverageOwner(StateOwner):
    """The average of the weights; before the first averaging, that is the weights."""

    files = (EMA,)

    def take(self, state: TrainerState) -> Contents:
        """Return it by parameter."""
        parts = self.run.parts
        if parts.average is None:
            return {}
        parts.follow()
        return {EMA: parts.reduction.whole_state(parts.average.state(), EMA.name)}

    def check(self, found: Checkpoint, where: Path) -> None:
        """Check that it is of these parameters, or say that this run goes on without it."""
        parts = self.run.parts
        if parts.average is None:
            warnings.warn(
                f"{where}: has averaged weights ({EMA.name}), which this run is without; give it "
                "the section [ema], or leave them",
                RuntimeWarning,
                stacklevel=4,
            )
            return
        saved = found[EMA]
        own = {f"{p.name}/{SLOT}": p for p in parts.model.parameters if p.trainable}
        if saved.keys() != own.keys():
            missing, more = sorted(own.keys() - saved), sorted(saved.keys() - own)
            raise CheckpointError(
                f"{where / EMA.name}: made for another model: it lacks {missing[:3] or 'nothing'} "
                f"and has {more[:3] or 'nothing'} besides. Use the configuration it was made with"
            )
        for name, parameter in own.items():
            expected, kind = (parameter.shape, parameter.data.dtype), kind_of(saved, name)
            if kind != expected:
                raise CheckpointError(
                    f"{where / EMA.name}: {name}: expected shape {expected[0]} {expected[1]}, got "
                    f"{kind[0]} {kind[1]}. Use the configuration it was made with"
                )

    def read(self, found: Checkpoint) -> Contents:
        """Read it, unless this run goes on without it."""
        return {} if self.run.parts.average is None else super().read(found)

    def put(self, found: Checkpoint, state: TrainerState, where: Path) -> None:
        """Copy it; how often it was averaged is the trainer's."""
        if self.run.parts.average is not None:
            self.run.parts.average.load_state(found[EMA])
