"""Building the parts of a run: by name, or taken as objects, and checked against each other."""

from __future__ import annotations

from collections.abc import Iterable
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
from tisslm.optim.loss_scaling import make_scaler
from tisslm.optim.weight_average import WeightAverage
from tisslm.registry import Registry
from tisslm.tracking.monitoring import check_monitors
from tisslm.tracking.own_metrics import OwnMetrics
from tisslm.tracking.sink_group import SinkGroup
from tisslm.training.components.checks import check_optimizer
from tisslm.training.components.components import Components
from tisslm.training.gradients.reference import Reference
from tisslm.training.ranks.layout import needs_whole
from tisslm.training.ranks.reduction import Reduction
from tisslm.training.ranks.share import make_share
from tisslm.training.ranks.shared import make_reduction

__all__ = ["Given", "Wanted", "build_components"]


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
    check_optimizer(optimizer, reduction.updated, given.model, communicator.size)
    if scheduler.optimizer is not optimizer:
        raise ConfigError("scheduler: it was made for another optimizer than the Trainer's")
    loss, monitors = build("loss", wanted.loss), list(monitors)
    validation_loss = build("loss", "cross_entropy")
    told = wanted.sinks if communicator.rank == 0 else ()
    sinks = SinkGroup((build("sink", sink) for sink in told), on_error=config.on_sink_error)
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
        own=_own_metrics(loss, scheduler, given.dataset, sinks, monitors),
        reduction=reduction,
        average=_make_average(wanted.ema, optimizer, reduction),
        reference=_reference(given, loss, validation_loss, config, communicator),
    )
    check_monitors(parts.monitors)
    return parts


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


def _own_metrics(
    loss: AnyLoss,
    scheduler: Scheduler,
    dataset: Dataset | None,
    sinks: SinkGroup,
    monitors: Iterable[Monitor],
) -> OwnMetrics:
    """Return what gathers the metrics that parts declare of themselves."""
    parts: list[tuple[str, Stateful | None]] = [
        ("loss", loss),
        ("scheduler", scheduler),
        ("dataset", dataset),
        *(("sink", sink) for sink in sinks),
        *(("monitor", monitor) for monitor in monitors),
    ]
    return OwnMetrics((f"{kind} {name_of(part)}", part) for kind, part in parts if part is not None)


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
