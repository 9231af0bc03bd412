"""The model of a checkpoint: a folder of Hugging Face transformers on the disk, ours in memory.

A family that is known outside is written under the names it has there, and ``config.json`` is the
one that others read; what we call the shape stands in it under ``tisslm``. A family that is known
nowhere else, and every checkpoint before 0.1.0, has our names and the shape alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tisslm.checkpoint.files import CONFIG, MODEL, File
from tisslm.checkpoint.record import Checkpoint
from tisslm.contracts import Exchange
from tisslm.contracts.exchange import OWN
from tisslm.errors import CheckpointError
from tisslm.system.safe_files import show

__all__ = ["as_written", "model_settings", "with_our_names"]


def as_written(checkpoint: Checkpoint) -> Iterator[tuple[File[Any], Any]]:
    """Yield each file of a checkpoint with its content as the disk is to have it."""
    exchange = checkpoint.exchange
    for file, content in checkpoint.files.items():
        if exchange is not None and file == MODEL:
            yield file, exchange.outward(content)
        elif exchange is not None and file == CONFIG:
            yield file, {**exchange.config, OWN: dict(content)}
        else:
            yield file, content


def model_settings(found: Checkpoint, where: Path) -> Mapping[str, Any]:
    """Return family and shape of the model of a checkpoint from the disk.

    Raises
    ------
    CheckpointError
        If they are no table.
    """
    settings: object = found[CONFIG].get(OWN, found[CONFIG])
    if not isinstance(settings, Mapping):
        raise CheckpointError(
            f"{where / CONFIG.name}: {OWN}: expected a table, got {show(settings)}; the "
            "checkpoint is damaged, use an earlier one"
        )
    return settings


def with_our_names(found: Checkpoint, exchange: Exchange | None, where: Path) -> Checkpoint:
    """Return a checkpoint from the disk as it is in memory; arrays are read as they are asked for.

    Parameters
    ----------
    found : Checkpoint
    exchange : Exchange or None
        Of a model of the checkpoint's shape.
    where : Path
        Its directory, for messages.

    Raises
    ------
    CheckpointError
        If its arrays are not those of such a model.
    """
    files = {**found.files, CONFIG: model_settings(found, where)}
    if MODEL in found.files and OWN in found[CONFIG] and exchange is not None:
        try:
            files[MODEL] = exchange.inward(found[MODEL])
        except CheckpointError as error:
            raise CheckpointError(f"{where / MODEL.name}: {error}") from error
    return replace(found, files=files, exchange=exchange)
