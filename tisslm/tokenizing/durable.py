"""Files that are on disk when a function returns.

What does not live here: what is in them.
"""

from __future__ import annotations

import os
from pathlib import Path

from tisslm.errors import DataError

__all__ = ["sync", "write_new_file"]


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_new_file(path: Path, text: str) -> None:
    """Write a text file that appears when it is whole.

    Raises
    ------
    DataError
        If it exists or cannot be written; nothing is left behind.
    """
    temporary = path.absolute().with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            sync(temporary)
            os.link(temporary, path)  # unlike a rename, it never replaces a file
            sync(path.absolute().parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{path}: could not be written ({error.strerror or error}); nothing is left behind. "
            "Choose another --out or free space"
        ) from error
