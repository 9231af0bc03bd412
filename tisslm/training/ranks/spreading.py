"""A checkpoint that rank 0 has read, given to all ranks, one array at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.checkpoint import Checkpoint
from tisslm.checkpoint.files import ArraysFile, File
from tisslm.contracts import Communicator
from tisslm.training.ranks.agreement import first_says

__all__ = ["spread"]

Array = NDArray[Any]

#: Returns what this rank keeps of an array, by file and name; None for nothing.
Keep = Callable[[ArraysFile, str, Array], Array | None]


def spread(
    communicator: Communicator,
    found: Checkpoint | None,
    files: Iterable[File[Any]],
    keep: Keep,
) -> Checkpoint:
    """Return what this rank needs of a checkpoint, in memory.

    Parameters
    ----------
    communicator : Communicator
    found : Checkpoint or None
        Only rank 0's counts.
    files : iterable of File
        All that there may be.
    keep : callable
        What of each array is kept; the array is overwritten later.
    """
    by_name = {file.name: file for file in files}
    contents: dict[File[Any], Any] = {}
    told = first_says(communicator, None if found is None else _plain(found))
    for name, value in told["files"].items():
        file = by_name[name]
        if not isinstance(file, ArraysFile):
            contents[file] = value
            continue
        arrays: Mapping[str, Array] = {} if found is None else found[file]
        contents[file] = {}
        for array_name, dtype, shape in value:
            own = arrays.get(array_name)
            whole = _told(communicator, own, np.dtype(dtype), tuple(shape))
            kept = keep(file, array_name, whole)
            if kept is not None:
                contents[file][array_name] = np.array(kept)
    return Checkpoint(contents, told["metrics"])


def _plain(found: Checkpoint) -> dict[str, Any]:
    """Return the files of plain values, and names, types and shapes of the arrays."""
    files: dict[str, Any] = {}
    for file, content in found.files.items():
        if isinstance(file, ArraysFile):
            content = [[name, a.dtype.str, list(a.shape)] for name, a in content.items()]
        files[file.name] = content
    return {"files": files, "metrics": dict(found.metrics)}


def _told(
    communicator: Communicator, own: Array | None, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Array:
    """Return an array of rank 0."""
    whole = np.empty(shape, dtype) if own is None else np.ascontiguousarray(own)
    communicator.broadcast(whole.reshape(-1))
    return whole
