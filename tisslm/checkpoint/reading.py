"""Reading a checkpoint, after every file of it was verified.

What does not live here: finding it (``finding``), and whether it fits a run (its owners).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tisslm.checkpoint.files import FILES, File
from tisslm.checkpoint.finding import Where, find
from tisslm.checkpoint.record import Checkpoint

__all__ = ["read"]


def read(path: Where, files: Iterable[File[Any]] = FILES) -> Checkpoint:
    """Read the checkpoint that ``find`` finds.

    Parameters
    ----------
    path : str, Path or Found
    files : iterable of File
        Which to read, where it has them. All are verified, whichever are read.

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
    named = found.manifest.files
    contents = {file: file.read(found.path) for file in files if file.name in named}
    return Checkpoint(contents, found.manifest.metrics)
