"""Reading a checkpoint, after every file of it was verified.

What does not live here: finding it (``finding``), and whether it fits a run (``fitting``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tisslm.checkpoint.finding import Where, find
from tisslm.checkpoint.manifest import Manifest
from tisslm.checkpoint.record import (
    CONFIG,
    HF_KEY,
    HF_NAME,
    HF_TOKENIZER,
    LIMITS,
    MODEL,
    OPTIMIZER,
    TOKENIZER,
    TRAINER,
    TRAINER_ARRAYS,
    Checkpoint,
)
from tisslm.system.strict_json import read_json
from tisslm.system.tensor_files import TensorFile

__all__ = ["read"]


def read(path: Where, *, optimizer: bool = True) -> Checkpoint:
    """Read the checkpoint that ``find`` finds.

    Parameters
    ----------
    path : str, Path or Found
    optimizer : bool
        Whether to read the optimizer's state, twice the model's size, and the trainer's arrays,
        too. Their files are verified all the same.

    Returns
    -------
    Checkpoint
        Its arrays are read from the files when they are asked for.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged.
    """
    found = find(path)
    folder, manifest = found.path, found.manifest
    return Checkpoint(
        model=TensorFile(folder / MODEL),
        model_config=_read_json(folder, CONFIG),
        optimizer=TensorFile(folder / OPTIMIZER) if optimizer else {},
        trainer=_read_json(folder, TRAINER),
        trainer_arrays=TensorFile(folder / TRAINER_ARRAYS) if optimizer else {},
        tokenizer=_read_tokenizer(folder, manifest),
        metrics=manifest.metrics,
    )


def _read_tokenizer(folder: Path, manifest: Manifest) -> dict[str, Any] | None:
    """Return name and state, by the file that is there."""
    if HF_TOKENIZER in manifest.files:
        return {"name": HF_NAME, "state": {HF_KEY: _read_json(folder, HF_TOKENIZER)}}
    if TOKENIZER in manifest.files:
        return _read_json(folder, TOKENIZER)
    return None


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    limits = LIMITS[name]
    return read_json(
        folder / name, limits.size, max_values=limits.values, allow_nan=limits.allow_nan
    )
