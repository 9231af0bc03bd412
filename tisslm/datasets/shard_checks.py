"""Verifying the files of token shards by their checksums.

The files are described in ``shard_format``.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from tisslm.datasets.shard_format import read_manifest
from tisslm.system.safe_files import open_at_once

__all__ = ["file_digest", "verify_shards"]


def verify_shards(
    path: str | os.PathLike[str], names: Collection[str] | None = None
) -> Iterator[tuple[str, str]]:
    """Read every file of a folder of shards and compare its size and SHA-256 with the manifest.

    Parameters
    ----------
    path : str or path-like
    names : collection of str, optional
        The files to verify; all if left out.

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
        if names is None or name in names:
            yield name, _problem(folder / name, record.bytes, record.sha256)


def _problem(path: Path, size: int, sha256: str) -> str:
    try:
        with os.fdopen(open_at_once(path), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return "it is no regular file"
            if status.st_size != size:
                return f"{status.st_size} bytes, its manifest says {size}"
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return error.strerror or str(error)
    return "" if found == sha256 else "its SHA-256 differs from the manifest's"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
