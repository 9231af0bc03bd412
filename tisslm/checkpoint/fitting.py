"""Whether a checkpoint fits the run that wants to go on from it.

What does not live here: whether its files are what was written (``verification``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from tisslm.checkpoint.record import Checkpoint
from tisslm.errors import CheckpointError
from tisslm.system.tensor_files import kind_of

__all__ = ["check_parameters", "check_same"]

Array = NDArray[Any]


def check_parameters(target: Mapping[str, Array], source: Mapping[str, Array], where: str) -> None:
    """Check that arrays of a checkpoint have the names, shapes and types of the model's.

    Raises
    ------
    CheckpointError
        If any differs.
    """
    missing = sorted(set(target) - set(source))
    unexpected = sorted(set(source) - set(target))
    if missing or unexpected:
        raise CheckpointError(
            f"{where}: made for another model: it lacks {missing[:3] or 'nothing'} and has "
            f"{unexpected[:3] or 'nothing'} besides. Use the configuration it was made with"
        )
    for name, array in target.items():
        shape, dtype = kind_of(source, name)
        if shape != array.shape or dtype != array.dtype:
            raise CheckpointError(
                f"{where}: parameter {name}: expected shape {array.shape} {array.dtype}, got "
                f"{shape} {dtype}. Use the configuration that the checkpoint was made with"
            )


def check_same(found: Checkpoint, own: Checkpoint, where: str) -> None:
    """Check that a checkpoint was made with the same model and tokenizer.

    Dropout may differ: it is no part of what the parameters mean.

    Raises
    ------
    CheckpointError
        If a size or option of the model, a parameter, or the tokenizer differs.
    """
    for key, value in own.model_config.items():
        saved = found.model_config.get(key, value)
        if saved != value and key != "dropout":
            raise CheckpointError(
                f"{where}: made with model.{key} = {saved!r:.200}, this model has {value!r}. "
                "Use the configuration that the checkpoint was made with"
            )
    if None not in (own.tokenizer, found.tokenizer) and own.tokenizer != found.tokenizer:
        raise CheckpointError(
            f"{where}: made with another tokenizer, or one of another text, so that ids mean "
            "other things. Resume on the text and with the tokenizer of the run"
        )
    check_parameters(own.model, found.model, where)
