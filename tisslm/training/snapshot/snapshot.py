"""The state of a run, taken from all owners and given back to them.

Which files there are, and what is in them, is in ``owners``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tisslm import checkpoint
from tisslm.config import TrainingConfig
from tisslm.config.metrics import BEST
from tisslm.errors import CheckpointError
from tisslm.registry import Registry
from tisslm.tracking.own_metrics import OwnMetrics
from tisslm.training.early_stopping import TRAIN_LOSS, Stopping, recent_loss
from tisslm.training.ranks.agreement import first_says
from tisslm.training.ranks.spreading import spread
from tisslm.training.snapshot import owners
from tisslm.training.snapshot.conditions import Conditions
from tisslm.training.state import TrainerState
from tisslm.training.step import StepResult

__all__ = ["Snapshot"]

Array = NDArray[Any]


class _Read(NamedTuple):
    """A checkpoint that was read: what is needed of it, where it leads to, and its directory."""

    found: checkpoint.Checkpoint
    state: TrainerState
    where: Path


class Snapshot:
    """Takes the state of a run, and restores it.

    Parameters
    ----------
    conditions : Conditions
        They have the parts of the run, too.
    stopping : Stopping
        Its standing is a part of the state.
    registry : Registry
        It knows the registered name of a tokenizer.
    """

    def __init__(self, conditions: Conditions, stopping: Stopping, registry: Registry) -> None:
        run = owners.Owned(conditions.parts, conditions, stopping, registry)
        self._config = conditions.config
        self._parts = conditions.parts
        self._own = conditions.parts.own
        self._owners = [owner(run) for owner in owners.OWNERS]

    @property
    def files(self) -> tuple[checkpoint.File[Any], ...]:
        """All that a checkpoint of this run may have."""
        return tuple(file for owner in self._owners for file in owner.files)

    def note(self, result: StepResult, state: TrainerState) -> None:
        """Show a step to all owners.

        Parameters
        ----------
        result : StepResult
        state : TrainerState
            The position after it.
        """
        for owner in self._owners:
            owner.note(result, state)

    def take(self, state: TrainerState) -> checkpoint.Checkpoint:
        """Return all that the run needs to go on; arrays are views."""
        self._parts.show(average=True)
        contents: dict[checkpoint.File[Any], Any] = {}
        for owner in self._owners:
            contents.update(owner.take(state))
        metrics = _metrics(state, self._config, self._own)
        return checkpoint.Checkpoint(contents, metrics, self._parts.model.exchange())

    def restore(self, path: checkpoint.Where, room: int) -> TrainerState:
        """Give the parts what a checkpoint has of them, and return the position.

        All of it is read before anything is changed, so that no disk leaves half of it behind.

        Parameters
        ----------
        path : str, Path or Found
            Whatever ``tisslm.checkpoint.find`` understands.
        room : int
            How many losses there will be.

        Raises
        ------
        CheckpointError
            If it is missing, damaged, or made for another model, tokenizer or optimizer; then
            nothing was changed. Also if a scheduler, a loss or a dataset does not take its own
            state; then the optimizer has been given its.
        """
        if self._parts.communicator.size == 1:
            found, state, where = self._read(path, room)
        else:
            found, state, where = self._read_together(path, room)
        self._put(found, state, where)
        return state

    def _read(self, path: checkpoint.Where, room: int) -> _Read:
        """Return what is needed of a checkpoint that fits the run, in memory, and the position."""
        place = checkpoint.find(path)
        where, found = place.path, checkpoint.read(place, self.files)
        self._check_required(found, where)
        state = owners.read_position(found, where, room)
        found, present = self._named(found, where), self._present(found)
        for owner in present:
            owner.check(found, where)
        contents = {f: content for owner in present for f, content in owner.read(found).items()}
        return _Read(replace(found, files=contents), state, where)

    def _read_together(self, path: checkpoint.Where, room: int) -> _Read:
        """Have rank 0 read a checkpoint, and return what this rank needs of it."""
        communicator, reduction = self._parts.communicator, self._parts.reduction
        read: _Read | None = None
        if communicator.rank == 0:
            read = self._read(path, room)
            files = dict(read.found.files)
            files[checkpoint.TRAINER_ARRAYS] = read.state.arrays()
            read = read._replace(found=replace(read.found, files=files))
        where = Path(first_says(communicator, "" if read is None else str(read.where)))

        def keep(file: checkpoint.ArraysFile, name: str, array: Array) -> Array | None:
            shared = file in (checkpoint.OPTIMIZER, checkpoint.EMA)
            return reduction.own_part(name, array) if shared else array

        found = spread(communicator, None if read is None else read.found, self.files, keep)
        return _Read(found, owners.read_position(found, where, room), where)

    def put_back(self, taken: checkpoint.Checkpoint, where: Path, room: int) -> TrainerState:
        """Give the parts back what was taken from them, and copied; return the position.

        Parameters
        ----------
        taken : Checkpoint
            A copy of what this run has given.
        where : Path
            The name of it in messages.
        room : int
            How many losses there will be.
        """
        state = owners.read_position(taken, where, room)
        self._put(taken, state, where)
        return state

    def differences(self, path: checkpoint.Where, state: TrainerState) -> list[str]:
        """Name the arrays that updates compute and that are not those of a checkpoint.

        Parameters
        ----------
        path : str, Path or Found
        state : TrainerState

        Raises
        ------
        CheckpointError
            If it is missing or damaged.
        """
        self._parts.show(average=True)
        place = checkpoint.find(path)
        saved = self._named(checkpoint.read(place, self.files), place.path)
        return [
            name
            for owner in self._owners
            for file, arrays in owner.take(state).items()
            if isinstance(file, checkpoint.ArraysFile) and file.called
            for name, array in arrays.items()
            if not _has(saved.files.get(file, {}), name, array)
        ]

    def _named(self, found: checkpoint.Checkpoint, where: Path) -> checkpoint.Checkpoint:
        """Return a checkpoint from the disk with the names that the owners give."""
        for owner in self._present(found):
            found = owner.named(found, where)
        return found

    def _check_required(self, found: checkpoint.Checkpoint, where: Path) -> None:
        for file in self.files:
            if file.required and file not in found.files:
                raise CheckpointError(
                    f"{where}: expected {file.name}, which every checkpoint of this run has, got "
                    "none; use a checkpoint of a run that was configured like this one"
                )

    def _present(self, found: checkpoint.Checkpoint) -> list[owners.StateOwner]:
        """Return those that a checkpoint has something of."""
        return [o for o in self._owners if any(file in found.files for file in o.files)]

    def _put(self, found: checkpoint.Checkpoint, state: TrainerState, where: Path) -> None:
        self._parts.show(average=True)  # which is what was saved
        for owner in reversed(self._present(found)):
            owner.put(found, state, where)


def _has(saved: Mapping[str, Any], name: str, array: Any) -> bool:
    return name in saved and np.array_equal(saved[name], array)


def _metrics(state: TrainerState, config: TrainingConfig, own: OwnMetrics) -> dict[str, float]:
    """Return what was measured at this very step; an older evaluation is another model's."""
    found = dict(state.evaluation)
    if found.pop("step", None) != state.step:
        found = {}
    if state.loss_history:
        by_it, losses = config.best_metric == TRAIN_LOSS, state.loss_history
        found[TRAIN_LOSS] = recent_loss(losses, config) if by_it else losses[-1]
    if config.best_metric not in BEST:
        found |= {name: value for name, value in own.ask().items() if math.isfinite(value)}
    return found
