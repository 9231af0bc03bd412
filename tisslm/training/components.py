"""The parts of a run: built by name or taken as objects, and checked against each other."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tisslm.config import EmaConfig, TrainingConfig
from tisslm.contracts import (
    AnyLoss,
    Communicator,
    Dataset,
    Loss,
    Model,
    Monitor,
    Network,
    Optimizer,
    PreferenceLoss,
    Scheduler,
    Stateful,
    Tokenizer,
)
from tisslm.contracts.part_names import name_of
from tisslm.errors import ConfigError
from tisslm.memory import Parameters
from tisslm.memory.shards import ParameterShard
from tisslm.optim.loss_scaling import LossScaler, make_scaler
from tisslm.optim.weight_average import WeightAverage
from tisslm.registry import Registry
from tisslm.tracking.monitoring import check_monitors
from tisslm.tracking.own_metrics import OwnMetrics
from tisslm.tracking.sink_group import SinkGroup
from tisslm.training.gradients.reference import Reference
from tisslm.training.interruption import Leave
from tisslm.training.ranks.layout import needs_whole
from tisslm.training.ranks.reduction import Reduction
from tisslm.training.ranks.share import make_share
from tisslm.training.ranks.shared import make_reduction

__all__ = ["Components", "Given", "Wanted", "build_components", "check_kept", "describe"]


@dataclass(frozen=True)
class Wanted:
    """The parts of a run as they were asked for: names, pairs of name and options, or objects."""

    optimizer: Any
    loss: Any
    scheduler: Any
    sinks: Iterable[Any]
    monitors: Iterable[Any]
    communicator: Any
    ema: EmaConfig | None = None


@dataclass(frozen=True)
class Given:
    """The parts of a run that are objects already."""

    model: Network
    dataset: Dataset | None
    val_dataset: Dataset | None
    tokenizer: Tokenizer | None


@dataclass(frozen=True)
class Components:
    """Every part of a run.

    Attributes
    ----------
    validation_loss : Loss
        Cross-entropy, whatever the training loss is, so that runs can be compared.
    monitors : list of Monitor
        Those that raise are removed from it.
    dataset, val_dataset, tokenizer
        None where the run has none.
    scaler : LossScaler
        Its scale is 1 unless the precision is fp16.
    own : OwnMetrics
        What parts measure of themselves.
    reduction : Reduction
        What adds up the gradients of an update, and has what the optimizer updates.
    average : WeightAverage or None
        The running mean of the weights.
    reference : Reference or None
        What preferences are compared with; None for a loss that needs none.
    """

    model: Network
    optimizer: Optimizer
    scheduler: Scheduler
    loss: AnyLoss
    validation_loss: Loss
    communicator: Communicator
    monitors: list[Monitor]
    sinks: SinkGroup
    dataset: Dataset | None
    val_dataset: Dataset | None
    tokenizer: Tokenizer | None
    scaler: LossScaler
    own: OwnMetrics
    reduction: Reduction
    average: WeightAverage | None = None
    reference: Reference | None = None

    def show(self, *, average: bool) -> None:
        """Give the parameters of all ranks the values that are evaluated, or those to be trained.

        Few optimizers have both; whoever needs one kind asks for it, and nothing is done where it
        is there.
        """
        if self.optimizer.has_average and self.optimizer.shows_average != average:
            self.reduction.reread()
            self.optimizer.show_average(average)
            self.reduction.publish()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the average of the weights in place of them, on all ranks, for a while.

        The weights come back exactly, also if an error ends it; of several
        ranks, unless that is one rank's own, which ends the run.
        """
        self._swap()
        try:
            yield
        except BaseException as error:
            if self.communicator.size == 1 or isinstance(error, Leave):
                self._swap()
            raise
        self._swap()

    def follow(self) -> None:
        """Have the average be the weights as they are, before the first averaging.

        Raises
        ------
        ConfigError
            If the run averages nothing.
        """
        if self.average is None:
            raise ConfigError(
                "averaged weights: expected a run that averages them, got one without; give the "
                "Trainer ema=EmaConfig(), or the run a section [ema]"
            )
        if not self.average.count:
            self.reduction.reread()
            self.average.follow()

    def _swap(self) -> None:
        self.follow()
        self.reduction.reread()
        if self.average is not None:
            self.average.swap()
        self.reduction.publish()

    def stateful(self) -> Iterator[tuple[str, str, Stateful]]:
        """Yield key, name and part of each part that may keep a state from step to step.

        Optimizer and scheduler are not among them: every run has their states. Keys are the same
        whenever the same parts are given in the same order: they have the name of the class, which
        a part has however it was given. Names are for messages.
        """
        parts: list[tuple[str, Stateful | None]] = [
            ("loss", self.loss),
            ("dataset", self.dataset),
            ("validation dataset", self.val_dataset),
            *(("monitor", monitor) for monitor in self.monitors),
            *(("sink", sink) for sink in self.sinks),
        ]
        seen: dict[str, int] = {}
        for kind, part in parts:
            if part is not None:
                key = f"{kind} {type(part).__name__}"
                seen[key] = seen.get(key, 0) + 1
                number = f" {seen[key]}" if seen[key] > 1 else ""
                yield f"{key}{number}", f"{kind} {name_of(part)}{number}", part


def check_kept(where: str, part: object, contract: type) -> None:
    """Refuse an object that does not keep the contract of its place.

    Parameters
    ----------
    where : str
        Name of the argument, for messages.
    part : object
    contract : type

    Raises
    ------
    ConfigError
        If it is none.
    """
    if not isinstance(part, contract):
        raise ConfigError(
            f"Trainer: {where}: expected a tisslm.contracts.{contract.__name__}, got "
            f"{type(part).__name__}; derive its class from it"
        )


def _check_optimizer(optimizer: Optimizer, updated: Parameters | ParameterShard, size: int) -> None:
    """Refuse an optimizer of other parameters than those that it is to update."""
    if optimizer.parameters is not updated:
        raise ConfigError(
            "optimizer: it was made for the parameters of another model"
            if size == 1
            else f"optimizer: {size} ranks share out the parameters, so it is built by the "
            "Trainer; give its name, or a pair of name and options"
        )


def _check_decay(optimizer: Optimizer, parameters: Parameters) -> None:
    """Refuse weight decay of some parameters where the optimizer knows of none."""
    decays = any(group.weight_decay is not None for group in parameters.groups)
    if decays and "weight_decay" not in inspect.signature(type(optimizer)).parameters:
        raise ConfigError(
            f"optimizer.groups: expected an optimizer that has a weight_decay, got "
            f"{name_of(optimizer)}, which has none; leave weight_decay out of its groups"
        )


def _check_rates(optimizer: Optimizer, model: Network) -> None:
    """Refuse an optimizer that the learning rates of a model's parameters are not made for."""
    if model.wants_scale_free and not optimizer.scale_free:
        raise ConfigError(
            "optimizer: expected one whose updates do not depend on the size of gradients, as "
            "adamw, adam and rmsprop are, since model.mup_base_width scales learning rates for "
            f"these, got {name_of(optimizer)}; take another one, or leave model.mup_base_width out"
        )


def _make_average(
    ema: EmaConfig | None, optimizer: Optimizer, reduction: Reduction
) -> WeightAverage | None:
    """Return what averages the weights of a run, if it is to."""
    if ema is None:
        return None
    if not isinstance(ema, EmaConfig):
        raise ConfigError(
            f"Trainer: ema: expected an EmaConfig, got {type(ema).__name__}; give it "
            "EmaConfig(decay=0.999)"
        )
    if optimizer.has_average:
        raise ConfigError(
            f"[ema]: expected an optimizer without an average of its own, got {name_of(optimizer)},"
            " whose average is what is evaluated and saved; leave [ema] out"
        )
    return WeightAverage(reduction.updated, ema)


def build_components(
    registry: Registry,
    wanted: Wanted,
    given: Given,
    monitors: Iterable[Monitor],
    config: TrainingConfig,
    precision: str,
    max_steps: int,
) -> Components:
    """Build every part of a run.

    Parameters
    ----------
    registry : Registry
    wanted : Wanted
    given : Given
    monitors : iterable of Monitor
        Those of ``wanted``, which a plan of the run had to build to ask what they want.
    config : TrainingConfig
    precision : {"fp32", "bf16", "fp16"}
    max_steps : int
        The ``max_steps`` of a scheduler that was given none.

    Raises
    ------
    ConfigError, PluginError
        If a name is unknown, an option is wrong, or a part was made for a part of another run.
    """
    build = registry.build
    communicator = build("communicator", wanted.communicator)
    share = make_share(config, communicator)
    shaped = communicator.size > 1 and needs_whole(registry, wanted.optimizer)
    reduction = make_reduction(given.model, share, communicator, shaped=shaped)
    optimizer = build("optimizer", wanted.optimizer, reduction.updated, config.learning_rate)
    scheduler = build("scheduler", wanted.scheduler, optimizer, defaults={"max_steps": max_steps})
    _check_optimizer(optimizer, reduction.updated, communicator.size)
    _check_decay(optimizer, given.model.parameters)
    _check_rates(optimizer, given.model)
    if scheduler.optimizer is not optimizer:
        raise ConfigError("scheduler: it was made for another optimizer than the Trainer's")
    loss, monitors = build("loss", wanted.loss), list(monitors)
    validation_loss = build("loss", "cross_entropy")
    told = wanted.sinks if communicator.rank == 0 else ()
    sinks = SinkGroup((build("sink", sink) for sink in told), on_error=config.on_sink_error)
    measured: list[tuple[str, Stateful | None]] = [
        ("loss", loss),
        ("scheduler", scheduler),
        ("dataset", given.dataset),
        *(("sink", sink) for sink in sinks),
        *(("monitor", monitor) for monitor in monitors),
    ]
    parts = Components(
        model=given.model,
        optimizer=optimizer,
        scheduler=scheduler,
        loss=loss,
        validation_loss=validation_loss,
        communicator=communicator,
        monitors=monitors,
        sinks=sinks,
        dataset=given.dataset,
        val_dataset=given.val_dataset,
        tokenizer=given.tokenizer,
        scaler=make_scaler(reduction.updated, config, precision),
        own=OwnMetrics(
            (f"{kind} {name_of(part)}", part) for kind, part in measured if part is not None
        ),
        reduction=reduction,
        average=_make_average(wanted.ema, optimizer, reduction),
        reference=_reference(given, loss, validation_loss, config, communicator),
    )
    check_monitors(parts.monitors)
    return parts


def _reference(
    given: Given, loss: AnyLoss, entropy: Loss, config: TrainingConfig, communicator: Communicator
) -> Reference | None:
    """Return what computes and keeps the reference of a loss of pairs; None for another loss."""
    if not isinstance(given.model, Model) or not isinstance(loss, PreferenceLoss):
        return None
    if not loss.needs_reference:
        return None
    datasets = [each for each in (given.dataset, given.val_dataset) if each is not None]
    return Reference(given.model, entropy, datasets, config.batch_size, communicator)


def describe(config: TrainingConfig, parts: Components) -> dict[str, Any]:
    """Describe a run that was composed in Python as far as names and values go.

    Parameters
    ----------
    config : TrainingConfig
    parts : Components

    Returns
    -------
    dict
        Nested tables of plain values, as a configuration file has them.
    """
    found: dict[str, Any] = {"training": config.model_dump(exclude_none=True)}
    shape = parts.model.settings()
    if shape:
        found["model"] = {key: value for key, value in shape.items() if value is not None}
    named = {"optimizer": parts.optimizer, "scheduler": parts.scheduler, "loss": parts.loss}
    for name, part in named.items():
        plain = {k: v for k, v in vars(part).items() if isinstance(v, (bool, int, float, str))}
        options = {k: v for k, v in plain.items() if not k.startswith("_")}
        found[name] = {"name": name_of(part), **options}
    if parts.average is not None:
        found["ema"] = parts.average.config.model_dump()
    return found
