"""Reading a checkpoint after verifying it, and checking that its parameters fit a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from tisslm.checkpoint.files import FILES, File
from tisslm.checkpoint.finding import Where, find
from tisslm.checkpoint.record import Checkpoint
from tisslm.errors import CheckpointError
from tisslm.system.tensor_files import kind_of

__all__ = ["check_parameters", "read"]

Array = NDArray[Any]


def read(path: Where, files: Iterable[File[Any]] = FILES) -> Checkpoint:
    """Read the checkpoint that a path stands for.

    Parameters
    ----------
    path : str, Path or Found
        As for ``find``.
    files : iterable of File
        The files to read, as far as the checkpoint has them. All of its files are verified.

    Returns
    -------
    Checkpoint
        Its arrays are read from the files when they are accessed.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged.
    """
    found = find(path)
    named = found.manifest.files
    contents = {file: file.read(found.path) for file in files if file.name in named}
    return Checkpoint(contents, found.manifest.metrics)


def check_parameters(target: Mapping[str, Array], source: Mapping[str, Array], where: str) -> None:
    """Check that the arrays of a checkpoint have the names, shapes and types of a model's.

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
