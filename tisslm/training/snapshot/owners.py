"""The owners of a checkpoint's files: model, tokenizer, reference, trainer, average, optimizer.

Whatever else a checkpoint is to have is one more owner, in ``OWNERS``: saving (at once or from a
copy), planning that copy, resuming, and trials that put everything back go through the list. How a
file is written and read is in ``tisslm.checkpoint.files``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tisslm import checkpoint
from tisslm.checkpoint import (
    ADAPTER,
    ADAPTER_CONFIG,
    BASE,
    CONFIG,
    EMA,
    MODEL,
    OPTIMIZER,
    TRAINER,
    TRAINER_ARRAYS,
    Checkpoint,
)
from tisslm.config.model import FAMILY
from tisslm.contracts import Scheduler
from tisslm.contracts.part_names import name_of
from tisslm.errors import CheckpointError
from tisslm.memory import Parameters
from tisslm.models.initialization import LORA_A, LORA_B
from tisslm.system.safe_files import show
from tisslm.system.tensor_files import kind_of
from tisslm.training.snapshot.average import AverageOwner
from tisslm.training.snapshot.conditions import warn_if_bits_differ
from tisslm.training.snapshot.owner import Contents, Owned, StateOwner
from tisslm.training.snapshot.part_states import load_part_states, part_states
from tisslm.training.snapshot.reference import ReferenceOwner
from tisslm.training.state import TrainerState

__all__ = ["OWNERS", "Owned", "StateOwner", "read_position"]

Array = NDArray[Any]


class ModelOwner(StateOwner):
    """The parameters, or the adapters beside them, and the shape of the model."""

    files = (MODEL, ADAPTER, ADAPTER_CONFIG, BASE, CONFIG)

    @classmethod
    def planned(cls, parameters: Parameters, slots: Sequence[int]) -> Iterable[int]:
        """Return the bytes of each parameter; with adapters, of these alone."""
        adapters = [p for p in parameters if p.name.endswith((LORA_A, LORA_B))]
        return (p.data.nbytes for p in adapters or parameters)

    def take(self, state: TrainerState) -> Contents:
        """Return the parameters, and what a family builds the model from."""
        model = self.run.parts.model
        arrays, shape, adapters = model.parameters.state(), model.settings(), model.adapters()
        if adapters is None:
            return {MODEL: arrays, CONFIG: shape}
        own = {ADAPTER: adapters.outward(arrays), BASE: adapters.base, CONFIG: shape}
        return own if adapters.config is None else {**own, ADAPTER_CONFIG: adapters.config}

    def named(self, found: Checkpoint, where: Path) -> Checkpoint:
        """Return it with our names; dropout is no part of what parameters mean."""
        model = self.run.parts.model
        if (ADAPTER in found.files) is (model.adapters() is None):
            has, mend = ("adapters alone", "give the run an [adapter], as it was made with")
            if ADAPTER not in found.files:
                has, mend = "no adapters", "leave [adapter] out, or begin with it as model.from"
            raise CheckpointError(f"{where}: it has {has}; {mend}")
        theirs = {
            "family": FAMILY,
            **checkpoint.model_settings(found, where),
        }  # the first name none
        for key, value in model.settings().items():
            saved = theirs.get(key, value)
            if saved != value and key != "dropout":
                raise CheckpointError(
                    f"{where}: made with model.{key} = {saved!r:.200}, this model has {value!r}. "
                    "Use the configuration that the checkpoint was made with"
                )
        return checkpoint.with_our_names(found, model.exchange(), where)

    def check(self, found: Checkpoint, where: Path) -> None:
        """Check that it has the parameters of this model."""
        model = self.run.parts.model
        own, adapters = model.parameters.state(), model.adapters()
        if adapters is None:
            checkpoint.check_parameters(own, found[MODEL], str(where))
            return
        if BASE not in found.files:
            raise CheckpointError(f"{where}: expected {BASE.name} beside adapters, got none")
        adapters.check(found[BASE], where)
        checkpoint.check_parameters(adapters.outward(own), found[ADAPTER], str(where))

    def put(self, found: Checkpoint, state: TrainerState, where: Path) -> None:
        """Copy the parameters; those that adapters are beside stay."""
        model = self.run.parts.model
        parameters, adapters = model.parameters, model.adapters()
        saved = found[MODEL] if adapters is None else adapters.inward(found[ADAPTER], where)
        for name in saved:
            parameters[name].data[...] = saved[name]
        parameters.updates = state.updates


class TokenizerOwner(StateOwner):
    """The tokenizer, which a run does not change."""

    files = checkpoint.TOKENIZER_FILES

    @cached_property
    def _described(self) -> dict[str, Any] | None:
        return checkpoint.tokenizer_state(self.run.parts.tokenizer, self.run.registry)

    @cached_property
    def _files(self) -> Contents:
        tokenizer = self.run.parts.tokenizer
        published = None if tokenizer is None else tokenizer.published()
        return checkpoint.tokenizer_files(self._described, published)

    def take(self, state: TrainerState) -> Contents:
        """Return its name and state, if it has a registered name, and its files for others."""
        return self._files

    def check(self, found: Checkpoint, where: Path) -> None:
        """Check that ids mean the same, where both have a tokenizer."""
        saved = checkpoint.read_tokenizer(found)
        if None not in (self._described, saved) and self._described != saved:
            raise CheckpointError(
                f"{where}: made with another tokenizer, or one of another text, so that ids mean "
                "other things. Resume on the text and with the tokenizer of the run"
            )

    def put(self, found: Checkpoint, state: TrainerState, where: Path) -> None:
        """Leave it as it is."""


class TrainerOwner(StateOwner):
    """The position, what the bits depend on, and the states of all parts but the optimizer."""

    files = (TRAINER, TRAINER_ARRAYS)

    def take(self, state: TrainerState) -> Contents:
        """Return what is short as plain values, and the losses as an array."""
        run, parts = self.run, self.run.parts
        values = {
            **run.conditions.as_json(),
            **state.as_json(),
            "updates": parts.model.parameters.updates,
            "scheduler": parts.scheduler.state(),
            "loss_scaling": parts.scaler.state(),
            "parts": part_states(parts),
            "stopping": run.stopping.state(),
        }
        if parts.average is not None:
            values["averagings"] = parts.average.count
        return {TRAINER: values, TRAINER_ARRAYS: state.arrays()}

    def check(self, found: Checkpoint, where: Path) -> None:
        """Check the standing of early stopping, and say what has changed since."""
        self.run.stopping.check(found[TRAINER].get("stopping", {}), where / TRAINER.name)
        values: Mapping[str, Any] = found[TRAINER]
        saved, now = {"reduction_parts": 1, **values}, self.run.conditions.as_json()
        now["reduction_parts"] = self._parts(saved, where)
        warn_if_bits_differ(saved, now)
        if "averagings" in values and EMA not in found.files:
            raise CheckpointError(
                f"{where}: expected {EMA.name} of a run that averages its weights, got none; use "
                "an earlier checkpoint"
            )

    def _averagings(self, saved: Mapping[str, Any], where: Path) -> int:
        """Return how often a checkpoint's weights were averaged; 0 for a run that does not."""
        count = saved.get("averagings", 0)
        if type(count) is not int or count < 0:
            raise CheckpointError(
                f"{where / TRAINER.name}: expected averagings to be an integer >= 0, got "
                f"{show(count)}; use an earlier checkpoint"
            )
        return count

    def _parts(self, saved: Mapping[str, Any], where: Path) -> int:
        """Return the parts of an update from here on: those of the run so far, unless told."""
        share, told = self.run.parts.reduction.share, self.run.conditions.config.reduction_parts
        parts = saved.get("reduction_parts", 1)
        if type(parts) is not int or parts < 1:
            raise CheckpointError(
                f"{where / TRAINER.name}: expected reduction_parts to be an integer >= 1, got "
                f"{show(parts)}; use an earlier checkpoint"
            )
        if told is not None:
            return told
        return parts if parts <= share.micro_batches else share.parts

    def read(self, found: Checkpoint) -> Contents:
        """Return the values; the losses are in the position already."""
        return {TRAINER: found[TRAINER]}

    def put(self, found: Checkpoint, state: TrainerState, where: Path) -> None:
        """Give the schedule and the parts their states."""
        parts, saved = self.run.parts, found[TRAINER]
        parts.reduction.cut_into(self._parts(saved, where))
        _load_schedule(parts.scheduler, saved.get("scheduler", {}), where)
        load_part_states(parts, saved.get("parts", {}), where, self.run.registry)
        parts.scaler.load_state(state.scaling)
        if parts.average is not None:
            parts.average.count = self._averagings(saved, where)
        if parts.dataset is not None:
            parts.dataset.epoch = state.epoch
        parts.scheduler.step(state.step)
        stopping = self.run.stopping
        stopping.standing = stopping.read(saved.get("stopping", {}), where / TRAINER.name)


class OptimizerOwner(StateOwner):
    """The optimizer's state."""

    files = (OPTIMIZER,)

    @classmethod
    def planned(cls, parameters: Parameters, slots: Sequence[int]) -> Iterable[int]:
        """Return the bytes of each slot."""
        return slots

    def take(self, state: TrainerState) -> Contents:
        """Return its arrays."""
        parts = self.run.parts
        return {OPTIMIZER: parts.reduction.whole_state(parts.optimizer.state())}

    def read(self, found: Checkpoint) -> Contents:
        """Read it, unless it does not fit and will be refused, however large it is."""
        if self.run.parts.communicator.size > 1:  # each rank has its own parts, and looks at them
            return super().read(found)
        saved, own = found[OPTIMIZER], self.run.parts.optimizer.state()
        fits = saved.keys() == own.keys() and all(
            kind_of(saved, name) == (array.shape, array.dtype) for name, array in own.items()
        )
        return super().read(found) if fits else {OPTIMIZER: saved}

    def put(self, found: Checkpoint, state: TrainerState, where: Path) -> None:
        """Give it its state, which it checks before it copies."""
        self.run.parts.optimizer.load_state(found[OPTIMIZER])
        self.run.parts.optimizer.zero_grad()


#: In the order in which they give and check. Taking back goes from the last to the first, so that
#: one that can only then refuse comes last here.
OWNERS: tuple[type[StateOwner], ...] = (
    ModelOwner,
    TokenizerOwner,
    ReferenceOwner,
    TrainerOwner,
    AverageOwner,
    OptimizerOwner,
)


def read_position(found: Checkpoint, where: Path, room: int) -> TrainerState:
    """Return where a run stands that goes on from a checkpoint.

    Parameters
    ----------
    found : Checkpoint
    where : Path
        Its directory, for messages.
    room : int
        How many losses there will be.

    Raises
    ------
    CheckpointError
        If it has no position.
    """
    return TrainerState.load(found[TRAINER], found[TRAINER_ARRAYS], where / TRAINER.name, room)


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
