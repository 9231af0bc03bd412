"""Loading a model and its tokenizer, and of a checkpoint the configuration of its run.

What a path stands for is in ``open_model``.
"""

from __future__ import annotations

from pathlib import Path

from tisslm import checkpoint
from tisslm.checkpoint.resume import open_run
from tisslm.checkpoint.run_directory import CONFIG as RUN_CONFIG
from tisslm.checkpoint.tokenizer_files import TOKENIZER_FILES
from tisslm.config import RunConfig
from tisslm.contracts import Model, Tokenizer
from tisslm.contracts.model import predicting_model
from tisslm.errors import CheckpointError, ConfigError
from tisslm.registry import Registry, load_registry
from tisslm.workflows.open_model import open_model, tokenizer_of

__all__ = ["load_model", "load_run_config", "saved_tokenizer"]


def load_model(
    path: checkpoint.Where, *, registry: Registry | None = None, ema: bool = False
) -> tuple[Model, Tokenizer | None]:
    """Build a model and its tokenizer from a checkpoint, or from what somebody has published.

    Parameters
    ----------
    path : str, Path or Found
        A checkpoint or a run directory, as for ``tisslm.checkpoint.find``; a folder of Hugging Face
        transformers; a GGUF file.
    registry : Registry, optional
        Where the names of family and tokenizer are looked up; every installed part if left out.
    ema : bool
        Whether the average of the weights is taken, of a run that has one.

    Returns
    -------
    model : Model
        A model of the family and data type of the checkpoint; a published one has float32.
    tokenizer : Tokenizer or None
        None if there is none.

    Raises
    ------
    CheckpointError
        If the model, or the average, is missing, damaged, or does not fit its family.
    PluginError
        If the family or the tokenizer is not installed.
    ConfigError
        If it makes vectors of texts, and no logits; or is not causal, so that it cannot predict.
    """
    opened = open_model(path, load_registry() if registry is None else registry, ema=ema)
    return predicting_model(opened.build(opened.shape({})), opened.where), opened.tokenizer


def saved_tokenizer(config: RunConfig, registry: Registry) -> tuple[str, Tokenizer, Path] | None:
    """Return name, tokenizer and path of the checkpoint that a run will resume from.

    Parameters
    ----------
    config : RunConfig
    registry : Registry

    Returns
    -------
    tuple or None
        None if the run does not resume, or its checkpoint has no tokenizer.

    Raises
    ------
    CheckpointError
        If the checkpoint is missing or damaged.
    """
    _, place = open_run(config.training, config.resolved())
    if place is None:
        return None
    found = checkpoint.read_tokenizer(checkpoint.read(place, TOKENIZER_FILES))
    if found is None:
        return None
    return found["name"], tokenizer_of(found, registry, place.path), place.path


def load_run_config(path: checkpoint.Where) -> RunConfig:
    """Read the configuration of the run that a checkpoint belongs to.

    Parameters
    ----------
    path : str, Path or Found
        As for ``load_model``.

    Raises
    ------
    CheckpointError
        If the configuration is not beside the checkpoint, or cannot be used.
    """
    where = checkpoint.find(path).path.absolute()
    for folder in where.parents:
        if (folder / RUN_CONFIG).is_file():
            config = _read_config(folder / RUN_CONFIG)
            if folder / config.training.checkpoint_dir == where.parent:
                return config
    raise CheckpointError(
        f"{where}: expected the run's {RUN_CONFIG} in a folder above it, found none; leave the "
        "checkpoint in its run directory"
    )


def _read_config(path: Path) -> RunConfig:
    try:
        return RunConfig.load(path, env={})
    except ConfigError as error:
        raise CheckpointError(
            f"the run was composed in Python or its configuration changed by hand: {error}"
        ) from error
