"""Building a Trainer from a configuration: its data, its model and its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tisslm.config import RunConfig
from tisslm.contracts import Communicator, ModelConfig, ModelFamily
from tisslm.system.launcher import check_size, find_launcher
from tisslm.training.ranks.placing import place_ranks
from tisslm.training.ranks.share import for_ranks
from tisslm.workflows.build.data import RunData
from tisslm.errors import ConfigError
from tisslm.training.batches import few_windows
from tisslm.checkpoint.owner import check_free
from tisslm.training.memory_plan.passes import resolve_precision
from tisslm.training.memory_plan.planner import Planner, settle
from tisslm.registry import Registry, load_registry
from tisslm.checkpoint.resume import known_folder
from tisslm.workflows.build.settling import read_data, settle_names, settle_sizes
from tisslm.training.trainer import Trainer

__all__ = [
    "ReadRun",
    "build_trainer",
    "plan_run",
    "read_run",
]


class ReadRun(NamedTuple):
    """A run whose configuration is settled and whose data are read, without its model.

    Attributes
    ----------
    config : RunConfig
        With defaults adapted to what was asked for (``tisslm.workflows.build.settling``).
    family : ModelFamily
    shape : ModelConfig
    data : RunData
    """

    config: RunConfig
    family: ModelFamily
    shape: ModelConfig
    data: RunData


def build_trainer(config: RunConfig, *, registry: Registry | None = None) -> Trainer:
    """Build everything that a configuration describes, ready to ``train()``.

    Parameters
    ----------
    config : RunConfig
    registry : Registry, optional
        Where names are looked up; every installed part if left out.

    Returns
    -------
    Trainer

    Raises
    ------
    ConfigError, PluginError
        If a setting does not fit its part, the text or another setting, or a name is unknown.
    DataError
        If the data cannot be used.
    CheckpointError
        If the run resumes from a checkpoint that does not fit.
    """
    registry = load_registry() if registry is None else registry
    communicator = _find_ranks(registry, config.training.stall_timeout)
    place_ranks(communicator, config.training.threads)  # before memory is touched
    folder = known_folder(config.training, config.resolved())
    if folder and communicator.rank == 0:
        check_free(Path(folder))
    read = read_run(config, registry)
    config, family, shape, data = read
    plan = settle(plan_run(read, registry, communicator.size))
    return Trainer(
        family.build(shape, seed=config.training.seed),
        config.optimizer,
        config.loss,
        config.scheduler,
        data.train,
        config.training,
        val_dataset=data.valid,
        sinks=config.sinks,
        monitors=config.monitors,
        communicator=communicator,
        tokenizer=data.tokenizer,
        settings=config.resolved(),
        registry=registry,
        plan=plan,
    )


def _find_ranks(registry: Registry, stall_timeout: float) -> Communicator:
    """Return the communicator of the processes that a launcher has started, or of one alone."""
    launcher = find_launcher()
    wanted: Any = "local"
    if launcher is not None and launcher.size > 1:
        wanted = launcher.communicator, {"stall_timeout": stall_timeout}
    communicator: Communicator = registry.build("communicator", wanted)
    check_size(launcher, communicator.size)
    return communicator


def read_run(config: RunConfig, registry: Registry) -> ReadRun:
    """Read the data of a run, and settle its configuration and the shape of its model.

    Defaults are adapted to what was asked for, with a note (``tisslm.workflows.build.settling``).

    Raises
    ------
    ConfigError, PluginError, DataError
        As ``build_trainer`` does.
    """
    config = settle_names(config, registry)
    family, shape = settle_sizes(config.model, registry)
    _check_names(config, registry)
    config, seq_len, data = read_data(config, shape.seq_len, registry)
    sizes = {"vocab_size": _vocab_size(config, data), "seq_len": seq_len}
    return ReadRun(config, family, family.configure(**{**shape.values(), **sizes}), data)


def plan_run(read: ReadRun, registry: Registry, ranks: int = 1) -> Planner:
    """Return the planner of a run whose data are read and whose model is not yet made.

    Parameters
    ----------
    read : ReadRun
    registry : Registry
    ranks : int
        How many train it together.

    Raises
    ------
    ConfigError
        If an update has too few rows for so many ranks.
    """
    config, data = read.config, read.data
    training = for_ranks(config.training, ranks)
    return Planner(
        read.family.of_shapes(read.shape),
        training,
        config.optimizer,
        registry,
        datasets=few_windows(data.train, data.valid, training),
        precision=resolve_precision(config.training.precision),
        monitors=config.monitors,
        ranks=ranks,
    )


def _check_names(config: RunConfig, registry: Registry) -> None:
    """Look up all names, so that a wrong one is found before a long text is read."""
    for kind in ("tokenizer", "optimizer", "scheduler", "loss"):
        registry.part(kind, getattr(config, kind).name)
    for kind, parts in (("sink", config.sinks), ("monitor", config.monitors)):
        for part in parts:
            registry.part(kind, part.name)


def _vocab_size(config: RunConfig, data: RunData) -> int:
    """Return the model's vocabulary: the tokenizer's, unless a larger one is given."""
    needed = data.train.vocab_size if data.tokenizer is None else data.tokenizer.vocab_size
    given: int = config.model.get("vocab_size", needed)
    if given < needed:
        whose = "dataset" if data.tokenizer is None else f"{config.tokenizer.name} tokenizer"
        raise ConfigError(
            f"model.vocab_size: expected at least {needed}, the number of ids of the {whose}, "
            f"got {given}; leave it out or raise it"
        )
    return given
