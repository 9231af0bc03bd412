"""Reading a checkpoint, after every file of it was verified.

What does not live here: finding it (``finding``), and whether it fits a run (``fitting``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tisslm.checkpoint.finding import resolve
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
    Checkpoint,
)
from tisslm.checkpoint.verification import verify
from tisslm.errors import CheckpointError
from tisslm.tensor_files import TensorFile

__all__ = ["read"]


def read(path: str | Path, *, optimizer: bool = True) -> Checkpoint:
    """Read the checkpoint that ``resolve`` finds.

    Parameters
    ----------
    path : str or Path
    optimizer : bool
        Whether to read the optimizer's state, twice the model's size, too. Its file is verified
        all the same.

    Returns
    -------
    Checkpoint
        Its arrays are mapped from the files when they are asked for.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged.
    """
    folder = resolve(path)
    manifest = verify(folder)
    return Checkpoint(
        model=_read_arrays(folder / MODEL),
        model_config=_read_json(folder / CONFIG),
        optimizer=_read_arrays(folder / OPTIMIZER) if optimizer else {},
        trainer=_read_json(folder / TRAINER),
        tokenizer=_read_tokenizer(folder, manifest),
        metrics=manifest.metrics,
    )


def _read_tokenizer(folder: Path, manifest: Manifest) -> dict[str, Any] | None:
    """Return name and state, by the file that is there."""
    if HF_TOKENIZER in manifest.files:
        return {"name": HF_NAME, "state": {HF_KEY: _read_json(folder / HF_TOKENIZER)}}
    return _read_json(folder / TOKENIZER) if TOKENIZER in manifest.files else None


def _read_arrays(path: Path) -> Mapping[str, NDArray[Any]]:
    from safetensors import SafetensorError

    try:
        return TensorFile(path)
    except (OSError, SafetensorError) as error:
        raise _unusable(path, error) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(path, error) from error
    if not isinstance(value, dict):
        raise _unusable(path, "expected a JSON object")
    return value


def _unusable(path: Path, error: object) -> CheckpointError:
    return CheckpointError(
        f"{path}: the checkpoint is damaged or incomplete ({error}); use an earlier one"
    )
