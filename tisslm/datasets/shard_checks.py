"""Whether the files of token shards are as they were written, and stay so while they are mapped.

What does not live here: what the files mean (``shard_format``), and mapping them (``shards``).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tisslm.datasets.shard_format import damaged, read_manifest
from tisslm.errors import DataError

__all__ = ["UnchangedFiles", "file_digest", "verify_shards"]

BLOCK = 2**22


class UnchangedFiles:
    """Files that must stay as they are while they are mapped.

    One that is cut short ends the process that reads beyond its new end, and no exception can
    tell of it; a dataset asks at each epoch's start.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._states = {path: self._state(path) for path in paths}

    @staticmethod
    def _state(path: Path) -> tuple[int, int]:
        try:
            status = os.stat(path)
        except OSError as error:
            raise damaged(path, error.strerror or str(error)) from error
        return status.st_size, status.st_mtime_ns

    def check(self) -> None:
        """Raise ``DataError`` if a file was changed since it was opened."""
        for path, state in self._states.items():
            if self._state(path) != state:
                raise DataError(
                    f"{path}: was written since it was opened; do not write files that a run "
                    "reads, make new shards in another folder"
                )


def verify_shards(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """Read every file of a folder of shards and compare its size and SHA-256 with the manifest.

    Parameters
    ----------
    path : str or path-like

    Yields
    ------
    name : str
    problem : str
        What is wrong with the file; "" if nothing is.

    Raises
    ------
    DataError
        If there is no usable manifest.
    """
    folder = Path(path)
    for name, record in read_manifest(folder).files.items():
        yield name, _problem(folder / name, record.bytes, record.sha256)


def _problem(path: Path, size: int, sha256: str) -> str:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return "it is no regular file"
        if status.st_size != size:
            return f"{status.st_size} bytes, its manifest says {size}"
        found = file_digest(path)
    except OSError as error:
        return error.strerror or str(error)
    return "" if found == sha256 else "its SHA-256 differs from the manifest's"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
