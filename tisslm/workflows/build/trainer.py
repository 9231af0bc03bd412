"""Building a Trainer from a configuration: its data, its model and its parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tisslm.checkpoint import Found
from tisslm.config import Part, RunConfig
from tisslm.config.aliases import note
from tisslm.config.model import FROM
from tisslm.contracts import Communicator, ModelConfig, ModelFamily, Network
from tisslm.system.launcher import check_size, find_launcher
from tisslm.training.ranks.placing import place_ranks
from tisslm.training.ranks.share import for_ranks
from tisslm.workflows.build.data import RunData
from tisslm.workflows.build.durations import in_steps
from tisslm.errors import CheckpointError, ConfigError
from tisslm.training.batches import few_windows
from tisslm.checkpoint.owner import check_free
from tisslm.training.memory_plan.passes import resolve_precision
from tisslm.training.memory_plan.planner import Planner, settle
from tisslm.registry import Registry, load_registry
from tisslm.checkpoint.resume import known_folder, open_run
from tisslm.workflows.build.settling import (
    read_data,
    settle_names,
    settle_origin,
    settle_sizes,
    with_tokenizer_of_model,
)
from tisslm.workflows.build.teacher import Teacher, find_teacher, with_teacher
from tisslm.workflows.build.tokenizer import OF_MODEL
from tisslm.workflows.build.tuned import drawn_model, shapes_of, tuning_of
from tisslm.workflows.load_model import load_run_config
from tisslm.workflows.open_model import OpenModel, open_model
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
    origin : OpenModel or None
        The model that the run starts from, if it does not begin with drawn values.
    teacher : Teacher or None
        The model that the run distils.
    """

    config: RunConfig
    family: ModelFamily
    shape: ModelConfig
    data: RunData
    origin: OpenModel | None = None
    teacher: Teacher | None = None

    def build_model(self) -> Network:
        """Return the model, with the values of the origin or drawn ones."""
        tuning, seed = tuning_of(self.config), self.config.training.seed
        if self.origin is not None:
            return self.origin.build(self.shape, seed=seed, tuning=tuning)
        return drawn_model(self.family, self.shape, tuning, seed)

    def loss(self) -> Part:
        """Return the loss, with the teacher if it has one."""
        loss = self.config.loss
        return loss if self.teacher is None else with_teacher(loss, self.teacher.build())

    def model_of_shapes(self) -> Network:
        """Return the model without memory, for plans."""
        return shapes_of(self.family, self.shape, tuning_of(self.config))


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
    read = read_run(config, registry, communicator.size)
    config, data = read.config, read.data
    plan = settle(plan_run(read, registry, communicator.size))
    return Trainer(
        read.build_model(),
        config.optimizer,
        read.loss(),
        config.scheduler,
        data.train,
        config.training,
        val_dataset=data.valid,
        sinks=config.sinks,
        monitors=config.monitors,
        communicator=communicator,
        ema=config.ema,
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


def read_run(config: RunConfig, registry: Registry, ranks: int = 1) -> ReadRun:
    """Read the data of a run, and settle its configuration and the shape of its model.

    Defaults are adapted to what was asked for, with a note (``tisslm.workflows.build.settling``),
    and durations become numbers of steps. ``ranks`` is how many train it together.

    Raises
    ------
    ConfigError, PluginError, DataError
        As ``build_trainer`` does.
    """
    config = settle_names(config, registry)
    config, origin = _find_origin(config, registry)
    if origin is not None:
        family, shape = origin.family, origin.shape(_beside(config))
    else:
        family, shape = settle_sizes(config.model, registry)
    _check_names(config, registry)
    its_tokenizer = None if origin is None else origin.tokenizer
    config, seq_len, data = read_data(config, shape.seq_len, registry, its_tokenizer)
    given = shape.vocab_size if origin is not None else config.model.get("vocab_size")
    sizes = {"vocab_size": _vocab_size(given, config, data), "seq_len": seq_len}
    shape = family.configure(**{**shape.values(), **sizes})
    config = in_steps(config, data.train, seq_len, ranks)
    teacher = find_teacher(config, shape, data.tokenizer, registry)
    return ReadRun(config, family, shape, data, origin, teacher)


def _find_origin(config: RunConfig, registry: Registry) -> tuple[RunConfig, OpenModel | None]:
    """Return the model that a run starts from, and the configuration with its tokenizer's name.

    A run that resumes starts from its checkpoint. Whether the tokenizer in there came with the
    first model, the run's own configuration says.
    """
    path = config.model.get(FROM)
    if path is None:
        if config.adapter is not None:
            raise ConfigError(
                f"[adapter]: expected a model to adapt, as model.{FROM}, got none; name one, or "
                "leave the section out"
            )
        return config, None
    place = _find_checkpoint(config)
    try:
        # adapters go on beside the model that they began beside
        origin = open_model(path if place is None or config.adapter else place, registry)
    except CheckpointError as error:
        raise CheckpointError(f"model.{FROM}: {error}") from error
    if place is None and config.adapter is not None and origin.place is not None:
        note(
            f"the adapters are for {origin.place.path}, which its own run may delete as it goes on "
            "(training.keep_checkpoints); export it, and begin from that, if it is to go on"
        )
    if place is not None and _has_own_tokenizer(place):
        return config, origin
    return settle_origin(config, origin), origin


def _find_checkpoint(config: RunConfig) -> Found | None:
    """Return the checkpoint that a run resumes from; its tokenizer's name may not be settled."""
    _, place = open_run(config.training, config.resolved())
    if place is None and not any(key.startswith("tokenizer.") for key in config.said):
        _, place = open_run(config.training, with_tokenizer_of_model(config).resolved())
    return place


def _has_own_tokenizer(place: Found) -> bool:
    """Return True for a checkpoint of a run whose model came without a tokenizer."""
    try:
        return load_run_config(place).tokenizer.name != OF_MODEL
    except CheckpointError:  # composed in Python, or alone
        return False


def _beside(config: RunConfig) -> dict[str, Any]:
    """Return what is asked for otherwise than the origin has it."""
    return {key: value for key, value in config.model.items() if key != FROM}


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
        read.model_of_shapes(),
        training,
        config.optimizer,
        registry,
        datasets=few_windows(data.train, data.valid, training),
        precision=resolve_precision(config.training.precision),
        monitors=config.monitors,
        ranks=ranks,
        averages=config.ema is not None,
        beside=None if read.teacher is None else read.teacher.items,
    )


def _check_names(config: RunConfig, registry: Registry) -> None:
    """Look up all names, so that a wrong one is found before a long text is read."""
    for kind in ("tokenizer", "optimizer", "scheduler", "loss"):
        name = getattr(config, kind).name
        if (kind, name) != ("tokenizer", OF_MODEL):
            registry.part(kind, name)
    for kind, parts in (("sink", config.sinks), ("monitor", config.monitors)):
        for part in parts:
            registry.part(kind, part.name)


def _vocab_size(given: int | None, config: RunConfig, data: RunData) -> int:
    """Return the model's vocabulary: the tokenizer's, unless a larger one is given."""
    needed = data.train.vocab_size if data.tokenizer is None else data.tokenizer.vocab_size
    if given is None:
        return needed
    if given < needed:
        whose = "dataset" if data.tokenizer is None else f"{config.tokenizer.name} tokenizer"
        advice = "leave it out or raise it"
        if FROM in config.model:
            advice = f"train on ids of the tokenizer of {config.model[FROM]}"
        raise ConfigError(
            f"model.vocab_size: expected at least {needed}, the number of ids of the {whose}, "
            f"got {given}; {advice}"
        )
    return given
