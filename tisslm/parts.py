"""The parts of a run: built by name or taken as objects, checked against each other.

What does not live here: what any part does, and where names are looked up (``registry``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tisslm.config import TrainingConfig
from tisslm.contracts import Communicator, Loss, Model, Monitor, Optimizer, Scheduler
from tisslm.errors import ConfigError
from tisslm.memory_plan import all_monitors
from tisslm.monitoring import check_monitors
from tisslm.part_names import name_of
from tisslm.registry import Registry
from tisslm.reporting import SinkGroup

__all__ = ["Parts", "Wanted", "build_parts", "describe"]


@dataclass(frozen=True)
class Wanted:
    """The parts of a run as they were given: names, pairs of name and options, or objects."""

    optimizer: Any
    loss_fn: Any
    scheduler: Any
    sinks: Iterable[Any]
    monitors: Iterable[Any]
    communicator: Any


@dataclass(frozen=True)
class Parts:
    """The parts of a run.

    Attributes
    ----------
    validation_loss : Loss
        Cross-entropy whatever the training loss is, so that runs can be compared.
    """

    optimizer: Optimizer
    scheduler: Scheduler
    loss_fn: Loss
    validation_loss: Loss
    communicator: Communicator
    monitors: list[Monitor]
    sinks: SinkGroup


def build_parts(
    registry: Registry, wanted: Wanted, model: Model, config: TrainingConfig, max_steps: int
) -> Parts:
    """Build every part of a run.

    Parameters
    ----------
    registry : Registry
    wanted : Wanted
    model : Model
    config : TrainingConfig
    max_steps : int
        For a scheduler that was given none.

    Raises
    ------
    ConfigError, PluginError
        If a name is unknown, an option wrong, or a part was made for another run's.
    """
    build = registry.build
    optimizer = build("optimizer", wanted.optimizer, model.parameters, config.learning_rate)
    scheduler = build("scheduler", wanted.scheduler, optimizer, defaults={"max_steps": max_steps})
    if optimizer.parameters is not model.parameters:
        raise ConfigError("optimizer: it was made for the parameters of another model")
    if scheduler.optimizer is not optimizer:
        raise ConfigError("scheduler: it was made for another optimizer than the Trainer's")
    communicator = build("communicator", wanted.communicator)
    if communicator.size > 1:
        raise ConfigError(
            f"communicator: this version trains in one process, got {communicator.size}"
        )
    monitors = all_monitors(wanted.monitors, config)
    parts = Parts(
        optimizer,
        scheduler,
        build("loss", wanted.loss_fn),
        build("loss", "cross_entropy"),
        communicator,
        [build("monitor", monitor) for monitor in monitors],
        SinkGroup((build("sink", sink) for sink in wanted.sinks), on_error=config.on_sink_error),
    )
    check_monitors(parts.monitors)
    return parts


def describe(config: TrainingConfig, model: Model, parts: Parts) -> dict[str, Any]:
    """Describe a run that was composed in Python as far as names and values go.

    Parameters
    ----------
    config : TrainingConfig
    model : Model
    parts : Parts

    Returns
    -------
    dict
        Nested tables of plain values, as a configuration file has them.
    """
    found: dict[str, Any] = {"training": config.model_dump(exclude_none=True)}
    shape = getattr(model, "config", None)
    if shape is not None:
        found["model"] = shape.model_dump(exclude_none=True)
    for name in ("optimizer", "scheduler", "loss_fn"):
        part = getattr(parts, name)
        plain = {k: v for k, v in vars(part).items() if isinstance(v, (bool, int, float, str))}
        options = {k: v for k, v in plain.items() if not k.startswith("_")}
        found[name.removesuffix("_fn")] = {"name": name_of(part), **options}
    return found
