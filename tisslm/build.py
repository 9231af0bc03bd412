"""From a configuration to a Trainer: data, model, parts.

What does not live here: reading configurations (``config``) and data (``data``), and what any
part does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tisslm.config import RunConfig
from tisslm.data import RunData, load_data
from tisslm.errors import ConfigError
from tisslm.loading import saved_tokenizer
from tisslm.models.transformer import Transformer
from tisslm.models.transformer_config import TransformerConfig
from tisslm.ownership import check_free
from tisslm.planning import Planner, fit_memory
from tisslm.precision import resolve_precision
from tisslm.registry import Registry, load_registry
from tisslm.run_choice import known_folder
from tisslm.trainer import Trainer

__all__ = [
    "build_trainer",
    "plan_run",
    "read_run",
]


def build_trainer(config: RunConfig, *, registry: Registry | None = None) -> Trainer:
    """Build everything that a configuration describes, ready to ``train()``.

    Parameters
    ----------
    config : RunConfig
    registry : Registry, optional
        Where names are looked up; left out, every installed part.

    Returns
    -------
    Trainer

    Raises
    ------
    ConfigError, PluginError
        If a setting does not fit its part, the text or another setting, or a name is unknown.
    DataError
        If the text cannot be used.
    CheckpointError
        If the run is to go on from a checkpoint that does not fit.
    """
    registry = load_registry() if registry is None else registry
    folder = known_folder(config.training, config.resolved())
    if folder:
        check_free(Path(folder))
    shape, data = read_run(config, registry)
    fit_memory(plan_run(config, shape, data, registry))
    return Trainer(
        Transformer(shape, seed=config.training.seed),
        config.optimizer,
        config.loss,
        config.scheduler,
        data.train,
        config.training,
        val_dataset=data.valid,
        sinks=config.sinks,
        monitors=config.monitors,
        tokenizer=data.tokenizer,
        settings=config.resolved(),
        registry=registry,
    )


def read_run(config: RunConfig, registry: Registry) -> tuple[TransformerConfig, RunData]:
    """Return the shape of a run's model, and its data; all of a run but what takes memory.

    Raises
    ------
    ConfigError, PluginError, DataError
        As ``build_trainer`` does.
    """
    shape = model_shape(config.model)
    _check_names(config, registry)
    data = load_data(config, shape.seq_len, registry, lambda: saved_tokenizer(config, registry))
    return shape.model_copy(update={"vocab_size": _vocab_size(config, data)}), data


def plan_run(
    config: RunConfig, shape: TransformerConfig, data: RunData, registry: Registry
) -> Planner:
    """Return the planner of a run whose data are read and whose model is not yet made."""
    return Planner(
        Transformer.of_shapes(shape),
        config.training,
        config.optimizer,
        registry,
        datasets=(data.train, data.valid),
        precision=resolve_precision(config.training.precision),
        monitors=config.monitors,
    )


def model_shape(model: dict[str, Any]) -> TransformerConfig:
    """Build the model's configuration, with a vocabulary of 1 where none is given."""
    values = {"vocab_size": 1, **model}
    preset = values.pop("preset", None)
    if preset is None:
        return TransformerConfig(**values)
    return TransformerConfig.preset(preset, **values)


def _check_names(config: RunConfig, registry: Registry) -> None:
    """Look every name up, so that a wrong one is found before a long text is read."""
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
