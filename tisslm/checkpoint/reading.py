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
    MODEL,
    OPTIMIZER,
    TOKENIZER,
    TRAINER,
    TRAINER_ARRAYS,
    Checkpoint,
)
from tisslm.strict_json import read_json
from tisslm.tensor_files import TensorFile

__all__ = ["read"]

# What JSON files may have: bytes, and values where there is a loss for every update or a merge for
# every token.
_SMALL = 2**20
_LARGE = 2**29
_VALUES = 2**24


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
        model_config=read_json(folder / CONFIG, _SMALL),
        optimizer=TensorFile(folder / OPTIMIZER) if optimizer else {},
        trainer=read_json(folder / TRAINER, _LARGE, max_values=_VALUES, allow_nan=True),
        trainer_arrays=TensorFile(folder / TRAINER_ARRAYS) if optimizer else {},
        tokenizer=_read_tokenizer(folder, manifest),
        metrics=manifest.metrics,
    )


def _read_tokenizer(folder: Path, manifest: Manifest) -> dict[str, Any] | None:
    """Return name and state, by the file that is there."""
    if HF_TOKENIZER in manifest.files:
        content = read_json(folder / HF_TOKENIZER, _LARGE, max_values=_VALUES)
        return {"name": HF_NAME, "state": {HF_KEY: content}}
    if TOKENIZER in manifest.files:
        return read_json(folder / TOKENIZER, _LARGE, max_values=_VALUES)
    return None
