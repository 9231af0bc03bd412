"""Loading a model and its tokenizer from a checkpoint, and the configuration of its run.

The files of a checkpoint are read in ``checkpoint``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tisslm import checkpoint
from tisslm.checkpoint import CONFIG, MODEL
from tisslm.checkpoint.files import HF_TOKENIZER, TOKENIZER
from tisslm.checkpoint.resume import open_run
from tisslm.checkpoint.run_directory import CONFIG as RUN_CONFIG
from tisslm.config import RunConfig
from tisslm.config.model import FAMILY
from tisslm.contracts import Model, ModelFamily, Tokenizer
from tisslm.errors import CheckpointError, ConfigError, PluginError
from tisslm.memory import Parameters, ParameterSpec
from tisslm.registry import Registry, load_registry
from tisslm.system.safe_files import show
from tisslm.system.tensor_files import kind_of

__all__ = ["load_model", "load_run_config", "saved_tokenizer"]

#: The files that are needed for a model without its run.
_OF_A_MODEL = (MODEL, CONFIG, TOKENIZER, HF_TOKENIZER)


def load_model(
    path: checkpoint.Where, *, registry: Registry | None = None
) -> tuple[Model, Tokenizer | None]:
    """Build the model and the tokenizer of a checkpoint.

    Parameters
    ----------
    path : str, Path or Found
        A checkpoint or a run directory, as for ``tisslm.checkpoint.find``.
    registry : Registry, optional
        Where the names of family and tokenizer are looked up; every installed part if left out.

    Returns
    -------
    model : Model
        A model of the checkpoint's family and data type.
    tokenizer : Tokenizer or None
        None if the checkpoint has none.

    Raises
    ------
    CheckpointError
        If the checkpoint is missing, damaged, or does not fit its family.
    PluginError
        If the family or the tokenizer is not installed.
    """
    registry = load_registry() if registry is None else registry
    place = checkpoint.find(path)
    where, found = place.path, checkpoint.read(place, _OF_A_MODEL)
    model = _model(found, registry, where)
    saved = checkpoint.read_tokenizer(found)
    if saved is None:
        return model, None
    tokenizer = _tokenizer(saved, registry, where)
    if tokenizer.vocab_size > model.vocab_size:
        raise CheckpointError(
            f"{where}: its tokenizer has {tokenizer.vocab_size} ids, its model a vocabulary of "
            f"{model.vocab_size}; the two files are of different runs, use another checkpoint"
        )
    return model, tokenizer


def _model(found: checkpoint.Checkpoint, registry: Registry, where: Path) -> Model:
    """Build the model of a checkpoint on the arrays that the checkpoint holds."""
    config, saved = found[CONFIG], found[MODEL]
    values = dict(config)
    name = values.pop("family", None)
    family = _family(FAMILY if name is None else name, registry, where)
    try:
        if "preset" in values:
            raise ConfigError("model.preset: a checkpoint has every value and names no preset")
        shape = family.configure(**values)
        _check_sizes(family.parameters(shape), saved, where)
        dtypes = {str(kind_of(saved, name)[1]) for name in saved}
        dtype = dtypes.pop() if len(dtypes) == 1 else "float32"
        parameters = Parameters(family.parameters(shape), dtype)
        model = family.build(shape, dtype=dtype, parameters=parameters)
    except ConfigError as error:
        wanted = "a Transformer" if name is None else f"a model of the family {show(name)}"
        raise CheckpointError(
            f"{where / CONFIG.name}: expected the configuration of {wanted}, got another "
            f"({error}); give a checkpoint that tisslm train has written"
        ) from error
    arrays = parameters.state()
    checkpoint.check_parameters(arrays, saved, str(where))
    for name, array in arrays.items():
        array[...] = saved[name]
    return model


def _family(name: object, registry: Registry, where: Path) -> ModelFamily:
    """Return the model family that a checkpoint names."""
    if not isinstance(name, str):
        raise CheckpointError(
            f"{where / CONFIG.name}: family: expected the name of a family of models, got "
            f"{show(name)}; the checkpoint is damaged, use an earlier one"
        )
    try:
        part = registry.part("model", name)
    except PluginError as error:
        raise PluginError(
            f"{where / CONFIG.name}: {error} Install the plugin that its run was made with"
        ) from error
    family: ModelFamily = part.load()()
    return family


def _check_sizes(specs: Iterable[ParameterSpec], arrays: Mapping[str, Any], where: Path) -> None:
    """Compare the sizes of a configuration with the arrays, before memory is allocated by it."""
    for spec in specs:  # one after another, however many layers the file says
        found = kind_of(arrays, spec.name)[0] if spec.name in arrays else None
        if found != spec.shape:
            got = "none" if found is None else f"one of {found}"
            raise CheckpointError(
                f"{where / CONFIG.name}: expected an array {spec.name} of shape {spec.shape} in "
                f"{MODEL.name}, got {got}; the two files are of different runs, use another "
                "checkpoint"
            )


def _tokenizer(saved: Mapping[str, Any], registry: Registry, where: Path) -> Tokenizer:
    name, state = saved.get("name"), saved.get("state")
    if not isinstance(name, str) or not isinstance(state, dict):
        raise CheckpointError(
            f"{where / TOKENIZER.name}: expected a tokenizer's name and state; the "
            "checkpoint is damaged, use an earlier one"
        )
    try:
        tokenizer: Tokenizer = registry.get("tokenizer", name).from_state(state)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error
    return tokenizer


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
    found = checkpoint.read_tokenizer(checkpoint.read(place, (TOKENIZER, HF_TOKENIZER)))
    if found is None:
        return None
    return found["name"], _tokenizer(found, registry, place.path), place.path


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
