"""Everything that a run needs to go on: taken from its parts, and given back to them.

What does not live here: the files (``checkpoint``), and when one is written (``loop``).
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tisslm import checkpoint, ops
from tisslm.config import TrainingConfig
from tisslm.config.metrics import BEST
from tisslm.contracts import Dataset, Scheduler
from tisslm.contracts.part_names import name_of
from tisslm.errors import CheckpointError, PluginError
from tisslm.registry import Registry
from tisslm.registry.discovery import tisslm_version
from tisslm.registry.hookspecs import KINDS
from tisslm.system.safe_files import show
from tisslm.system.tensor_files import kind_of
from tisslm.tracking.own_metrics import OwnMetrics
from tisslm.training.components import Components
from tisslm.training.early_stopping import TRAIN_LOSS, Stopping, recent_loss
from tisslm.training.state import TrainerState, warn_if_bits_differ

__all__ = [
    "Snapshot",
    "load_part_states",
    "part_states",
]

#: Parts that only look on: one that fails is named, and never stops the run.
OBSERVERS = ("monitor", "sink")


def part_states(parts: Components) -> dict[str, Any]:
    """Return the states of loss, datasets, monitors and sinks that have one, by kind and class.

    Parameters
    ----------
    parts : Components

    Raises
    ------
    PluginError
        If the state of a loss or a dataset is not plain JSON.
    """
    found = {}
    for key, name, part in parts.stateful():
        try:
            state = part.state()
            if state:
                found[key] = json.loads(json.dumps(state, allow_nan=False))
        except Exception as error:
            said = f"{name}: its state() is not plain JSON values ({type(error).__name__}: {error})"
            if not name.startswith(OBSERVERS):
                raise PluginError(f"{said}; the run cannot be saved without it") from error
            _warn(f"{said}; the checkpoint is written without it")
    return found


def load_part_states(
    parts: Components, saved: Mapping[str, Any], where: Path, registry: Registry
) -> None:
    """Give each part the state that it had, and say which state no part takes.

    Parameters
    ----------
    parts : Components
    saved : mapping
        What ``part_states`` returned.
    where : Path
        The checkpoint.
    registry : Registry
        By which states that nobody takes are named.

    Raises
    ------
    CheckpointError
        If a loss or a dataset does not take its state, or these are no states.
    """
    if not isinstance(saved, Mapping):
        raise CheckpointError(
            f"{where / 'trainer_state.json'}: expected the parts' states by name, got "
            f"{show(saved)}; use an earlier checkpoint"
        )
    left = dict(saved)
    for key, name, part in parts.stateful():
        if key not in left:
            continue
        try:
            part.load_state(left.pop(key))
        except Exception as error:
            said = (
                f"{where}: {name} does not take its saved state ({type(error).__name__}: {error})"
            )
            if not name.startswith(OBSERVERS):
                raise CheckpointError(f"{said}; use the version it was saved with") from error
            _warn(f"{said} and begins without it")
    if left:
        lost = ", ".join(sorted(_called(key, registry) for key in left))
        _warn(f"{where}: has states of parts that this run is without: {lost}")


def _called(key: str, registry: Registry) -> str:
    """Return what messages call the part of a key: its name, if a part has that class."""
    kind, _, rest = key.removeprefix("validation ").partition(" ")
    if kind in KINDS:
        for part in registry.entries(kind):
            if rest.split(" ")[0] == part.class_name:
                return key.replace(part.class_name, part.entry.name)
    return key


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


Array = NDArray[Any]


class Snapshot:
    """Takes the state of a run, and restores it.

    Parameters
    ----------
    parts : Components
    config : TrainingConfig
    precision : {"fp32", "bf16", "fp16"}
        Of the passes.
    stopping : Stopping
        Whose standing is a part of the state.
    registry : Registry
        By which a tokenizer is named.
    scheduler : mapping
        The schedule's settings.
    """

    def __init__(
        self,
        parts: Components,
        config: TrainingConfig,
        precision: str,
        stopping: Stopping,
        registry: Registry,
        scheduler: Mapping[str, Any],
    ) -> None:
        self._parts = parts
        self._config = config
        self._precision = precision
        self._stopping = stopping
        self._registry = registry
        self._scheduler = scheduler
        self._fingerprints: list[tuple[Dataset, str]] = []

    @cached_property
    def _tokenizer(self) -> dict[str, Any] | None:
        """Name and state of the tokenizer, which a run does not change."""
        return checkpoint.tokenizer_state(self._parts.tokenizer, self._registry)

    def conditions(self) -> dict[str, Any]:
        """Return what the bits of the run depend on, beside the parts and their options."""
        parts, config = self._parts, self._config
        return {
            "version": tisslm_version(),
            "engine": ops.engine(),
            "precision": self._precision,
            "seed": config.seed,
            "model_seed": parts.model.seed,
            "batch_size": config.batch_size,
            "rows_per_update": config.rows_per_update,
            "windows": None if parts.dataset is None else len(parts.dataset),
            "data": self._fingerprint(parts.dataset),
            "validation_data": self._fingerprint(parts.val_dataset),
            "learning_rate": config.learning_rate,
            "max_grad_norm": config.max_grad_norm,
            "schedule": self._schedule(),
        }

    def _schedule(self) -> dict[str, Any]:
        """Return what the learning rates follow from; its steps only where they depend on them."""
        found = {k: v for k, v in self._scheduler.items() if v is not None and k != "base_lr"}
        steps = self._parts.scheduler.max_steps
        return found if steps is None else {**found, "max_steps": steps}

    def _fingerprint(self, dataset: Dataset | None) -> str | None:
        """Return the fingerprint that a dataset had when it was first asked for.

        Later its files may be gone, and the run is to be saved all the same.
        """
        if dataset is None:
            return None
        known = self._fingerprints
        if not any(dataset is asked for asked, _ in known):
            known.append((dataset, dataset.fingerprint()))
        return next(text for asked, text in known if asked is dataset)

    def take(self, state: TrainerState) -> checkpoint.Checkpoint:
        """Return all that the run needs to go on; arrays are views."""
        parts = self._parts
        return replace(
            self._bare(),
            optimizer=parts.optimizer.state(),
            trainer={
                **self.conditions(),
                **state.as_json(),
                "updates": parts.model.parameters.updates,
                "scheduler": parts.scheduler.state(),
                "loss_scaling": parts.scaler.state(),
                "parts": part_states(parts),
                "stopping": self._stopping.state(),
            },
            trainer_arrays=state.arrays(),
            metrics=_metrics(state, self._config, self._parts.own),
        )

    def _bare(self) -> checkpoint.Checkpoint:
        """Return what a checkpoint must have in common with the run: model and tokenizer."""
        model = self._parts.model
        return checkpoint.Checkpoint(
            model=model.parameters.state(),
            model_config=model.settings(),
            tokenizer=self._tokenizer,
        )

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
        place = checkpoint.find(path)
        where, found = place.path, checkpoint.read(place)
        file = where / "trainer_state.json"
        state = TrainerState.load(found.trainer, found.trainer_arrays, file, room)
        standing = self._stopping.read(found.trainer.get("stopping", {}), file)
        checkpoint.check_same(found, self._bare(), str(where))
        warn_if_bits_differ(found.trainer, self.conditions())
        read = replace(
            found,
            model=_read(found.model, self._parts.model.parameters.state()),
            optimizer=_read(found.optimizer, self._parts.optimizer.state()),
        )
        self._put(read, state, where)
        self._stopping.standing = standing
        return state

    def put_back(self, taken: checkpoint.Checkpoint, where: Path, room: int) -> TrainerState:
        """Give the parts back what was taken from them, and copied; return the position.

        Parameters
        ----------
        taken : Checkpoint
            Of this very run.
        where : Path
            What messages call it.
        room : int
            How many losses there will be.
        """
        state = TrainerState.load(taken.trainer, taken.trainer_arrays, where, room)
        self._stopping.standing = self._stopping.read(taken.trainer["stopping"], where)
        self._put(taken, state, where)
        return state

    def _put(self, found: checkpoint.Checkpoint, state: TrainerState, where: Path) -> None:
        parts = self._parts
        parts.optimizer.load_state(found.optimizer)  # which checks before it copies
        _load_schedule(parts.scheduler, found.trainer.get("scheduler", {}), where)
        load_part_states(parts, found.trainer.get("parts", {}), where, self._registry)
        for name, array in parts.model.parameters.state().items():
            array[...] = found.model[name]
        parts.scaler.load_state(state.scaling)
        parts.model.parameters.updates = state.updates
        if parts.dataset is not None:
            parts.dataset.epoch = state.epoch
        parts.optimizer.zero_grad()
        parts.scheduler.step(state.step)


def _read(saved: Mapping[str, Array], own: Mapping[str, Array]) -> Mapping[str, Array]:
    """Read arrays into memory, unless they do not fit and will be refused, however large."""
    fits = saved.keys() == own.keys() and all(
        kind_of(saved, name) == (array.shape, array.dtype) for name, array in own.items()
    )
    return {name: saved[name] for name in saved} if fits else saved


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


def _load_schedule(scheduler: Scheduler, saved: object, where: Path) -> None:
    """Give the scheduler its state; one that had none begins as it is."""
    if saved == {}:
        return
    try:
        if not isinstance(saved, Mapping):
            raise TypeError(f"expected a table, got {show(saved)}")
        scheduler.load_state(saved)
    except Exception as error:
        raise CheckpointError(
            f"{where}: scheduler {name_of(scheduler)} does not take its saved state "
            f"({type(error).__name__}: {error}); go on with the scheduler it was saved with"
        ) from error
