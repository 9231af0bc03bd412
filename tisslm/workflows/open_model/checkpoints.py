"""A model of a checkpoint of ours, and its tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tisslm import checkpoint
from tisslm.checkpoint import CONFIG, EMA, MODEL
from tisslm.checkpoint.files import TOKENIZER
from tisslm.config.model import FAMILY
from tisslm.contracts import ModelFamily, Tokenizer
from tisslm.errors import CheckpointError, ConfigError, PluginError
from tisslm.memory import ParameterSpec
from tisslm.models.published import Published
from tisslm.registry import Registry
from tisslm.system.safe_files import show
from tisslm.system.tensor_files import kind_of
from tisslm.workflows.open_model.averaged import Averaged
from tisslm.workflows.open_model.opened import OpenModel

__all__ = ["of_checkpoint", "saved_tokenizer", "tokenizer_of"]


def of_checkpoint(
    place: checkpoint.Found, found: checkpoint.Checkpoint, registry: Registry
) -> OpenModel:
    """Return the model that a checkpoint has whole.

    Parameters
    ----------
    place : Found
    found : Checkpoint
        What was read there; with averages of the weights, they are taken.
    registry : Registry

    Raises
    ------
    CheckpointError
        If its files do not fit each other.
    PluginError
        If its family or its tokenizer is not installed.
    """
    where = place.path
    values = dict(checkpoint.model_settings(found, where))
    name = values.pop("family", None)
    family = _family(FAMILY if name is None else name, registry, where)
    try:
        if "preset" in values:
            raise ConfigError("model.preset: a checkpoint has every value and names no preset")
        shape = family.configure(**values)
        exchange = family.exchange(shape)
        arrays = checkpoint.with_our_names(found, exchange, where)[MODEL]
        _check_sizes(family.parameters(shape), arrays, where)
        if EMA in found.files:
            arrays = Averaged(arrays, found[EMA])
            _check_sizes(family.parameters(shape), arrays, where)
    except ConfigError as error:
        wanted = "a Transformer" if name is None else f"a model of the family {show(name)}"
        raise CheckpointError(
            f"{where / CONFIG.name}: expected the configuration of {wanted}, got another "
            f"({error}); give a checkpoint that tisslm train has written"
        ) from error
    kinds = {str(kind_of(arrays, name)[1]) for name in arrays}
    dtypes = sorted(kinds - {"uint16"})  # frozen ones, in two bytes, which become as the others
    if len(dtypes) > 1:
        raise CheckpointError(
            f"{where / MODEL.name}: expected parameters of one type, got {' and '.join(dtypes)}; "
            "the checkpoint is damaged, use an earlier one"
        )
    dtype = dtypes[0] if dtypes else "float32"
    tokenizer = saved_tokenizer(found, registry, where)
    settings = {"family": FAMILY if name is None else name, **values}
    return OpenModel(family, Published(settings, arrays, str(where)), dtype, tokenizer, place)


def saved_tokenizer(
    found: checkpoint.Checkpoint, registry: Registry, where: Path
) -> Tokenizer | None:
    """Return the tokenizer of a checkpoint, None if it has none."""
    saved = checkpoint.read_tokenizer(found)
    return None if saved is None else tokenizer_of(saved, registry, where)


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
    names = set()
    for spec in specs:  # one after another, however many layers the file says
        names.add(spec.name)
        found = kind_of(arrays, spec.name)[0] if spec.name in arrays else None
        if found != spec.shape:
            got = "none" if found is None else f"one of {found}"
            raise CheckpointError(
                f"{where / CONFIG.name}: expected an array {spec.name} of shape {spec.shape} in "
                f"{MODEL.name}, got {got}; the two files are of different runs, use another "
                "checkpoint"
            )
    others = sorted(set(arrays) - names)
    if others:
        raise CheckpointError(
            f"{where / MODEL.name}: made for another model: it has {others[:3]} besides. Use the "
            "configuration it was made with"
        )


def tokenizer_of(saved: Mapping[str, Any], registry: Registry, where: Path) -> Tokenizer:
    """Return the tokenizer that a checkpoint describes.

    Raises
    ------
    CheckpointError
        If it is damaged.
    PluginError
        If it is not installed.
    """
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
