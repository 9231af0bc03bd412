"""Everything that a run needs to go on: taken from a Trainer, and given back to one.

What does not live here: the files (``checkpoint``), and when one is written (``loop``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tisslm import checkpoint, ops
from tisslm.contracts import Dataset
from tisslm.errors import CheckpointError
from tisslm.part_states import load_part_states, part_states
from tisslm.plugins import tisslm_version
from tisslm.stopping import TRAIN_LOSS, recent_loss
from tisslm.trainer_state import TrainerState, warn_if_bits_differ
from tisslm.untrusted import show

if TYPE_CHECKING:
    from tisslm.trainer import Trainer

__all__ = ["conditions", "restore", "take"]


def take(trainer: Trainer) -> checkpoint.Checkpoint:
    """Return all that the run needs to go on; arrays are views.

    Parameters
    ----------
    trainer : Trainer
    """
    model = trainer.model
    shape = getattr(model, "config", None)
    return checkpoint.Checkpoint(
        model=model.parameters.state(),
        model_config={} if shape is None else shape.model_dump(),
        optimizer=trainer.optimizer.state(),
        trainer={
            **conditions(trainer),
            **trainer.state.as_json(),
            "updates": model.parameters.updates,
            "scheduler": trainer.scheduler.state(),
            "loss_scaling": trainer.scaler.state(),
            "parts": part_states(trainer),
            "stopping": trainer.stopping.state(),
        },
        trainer_arrays=trainer.state.arrays(),
        tokenizer=checkpoint.tokenizer_state(trainer.tokenizer, trainer.registry),
        metrics=_metrics(trainer),
    )


def _metrics(trainer: Trainer) -> dict[str, float]:
    """Return what was measured at this very step; an older evaluation is another model's."""
    found = dict(trainer.state.evaluation)
    if found.pop("step", None) != trainer.current_step:
        found = {}
    if trainer.loss_history:
        by_it = trainer.config.best_metric == TRAIN_LOSS
        losses = trainer.loss_history
        found[TRAIN_LOSS] = recent_loss(losses, trainer.config) if by_it else losses[-1]
    return found


def conditions(trainer: Trainer) -> dict[str, Any]:
    """Return what the bits of the run depend on, beside the parts and their options."""
    config = trainer.config
    return {
        "version": tisslm_version(),
        "engine": ops.engine(),
        "precision": trainer.passes.precision,
        "seed": config.seed,
        "model_seed": getattr(trainer.model, "seed", None),
        "batch_size": config.batch_size,
        "rows_per_update": trainer.rows_per_update,
        "windows": None if trainer.dataset is None else len(trainer.dataset),
        "data": _fingerprint(trainer, trainer.dataset),
        "validation_data": _fingerprint(trainer, trainer.val_dataset),
        "learning_rate": config.learning_rate,
        "max_grad_norm": config.max_grad_norm,
        "schedule": _schedule(trainer),
    }


def _schedule(trainer: Trainer) -> dict[str, Any]:
    """Return what the learning rates follow from; its steps only where they depend on them."""
    settings = trainer.settings.get("scheduler")
    found = {k: v for k, v in (settings or {}).items() if v is not None and k != "base_lr"}
    steps = getattr(trainer.scheduler, "max_steps", None)
    return found if steps is None else {**found, "max_steps": steps}


def restore(trainer: Trainer, path: checkpoint.Where) -> TrainerState:
    """Give a trainer's parts what a checkpoint has of them, and return the position.

    Parameters
    ----------
    trainer : Trainer
    path : str, Path or Found
        Whatever ``tisslm.checkpoint.find`` understands.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, or made for another model, tokenizer or optimizer; then
        nothing was changed. Also if a scheduler, a loss or a dataset does not take its own state;
        then the optimizer has been given its.
    """
    place = checkpoint.find(path)
    where, found, own = place.path, checkpoint.read(place), take(trainer)
    state = TrainerState.load(
        found.trainer, found.trainer_arrays, where / "trainer_state.json", trainer.max_steps
    )
    standing = trainer.stopping.read(
        found.trainer.get("stopping", {}), where / "trainer_state.json"
    )
    checkpoint.check_same(found, own, str(where))
    warn_if_bits_differ(found.trainer, conditions(trainer))
    trainer.optimizer.load_state(found.optimizer)  # which checks before it copies
    _load_schedule(trainer, found.trainer.get("scheduler", {}), where)
    load_part_states(trainer, found.trainer.get("parts", {}), where)
    for name, array in own.model.items():
        array[...] = found.model[name]
    trainer.scaler.load_state(state.scaling)
    trainer.model.parameters.updates = state.updates
    trainer.stopping.standing = standing
    if trainer.dataset is not None:
        trainer.dataset.epoch = state.epoch
    return state


def _load_schedule(trainer: Trainer, saved: object, where: Path) -> None:
    """Give the scheduler its state; one that had none begins as it is."""
    if saved == {}:
        return
    try:
        if not isinstance(saved, Mapping):
            raise TypeError(f"expected a table, got {show(saved)}")
        trainer.scheduler.load_state(saved)
    except Exception as error:
        raise CheckpointError(
            f"{where}: scheduler {type(trainer.scheduler).__name__} does not take its saved state "
            f"({type(error).__name__}: {error}); go on with the scheduler it was saved with"
        ) from error


def _fingerprint(trainer: Trainer, dataset: Dataset | None) -> str | None:
    """Return the fingerprint that a dataset had when it was first asked for.

    Later its files may be gone, and the run is to be saved all the same.
    """
    if dataset is None:
        return None
    known = trainer.fingerprints
    if not any(dataset is asked for asked, _ in known):
        known.append((dataset, dataset.fingerprint()))
    return next(text for asked, text in known if asked is dataset)
