"""Reading a checkpoint: it is found, every file is verified, and then the contents are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tisslm.checkpoint.files import FILES, File
from tisslm.checkpoint.finding import Where, find
from tisslm.checkpoint.record import Checkpoint

__all__ = ["read"]


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
