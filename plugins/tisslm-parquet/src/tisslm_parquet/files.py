"""Resolving paths to parquet files: a file, a folder or a pattern, always in the same order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path

from tisslm.errors import ConfigError, DataError

__all__ = ["Paths", "find_files"]

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


def find_files(paths: Paths) -> list[Path]:
    """Return the parquet files of paths, each once.

    Parameters
    ----------
    paths : str, path-like, or sequence of them
        Each is a file, a folder (all ``*.parquet`` below it, in the order of their paths; names
        that begin with a dot or an underscore are skipped), or a pattern with ``*``, ``?``,
        ``[...]`` or ``**``.

    Raises
    ------
    ConfigError
        If ``paths`` is none of these.
    DataError
        If a path does not exist, or has no parquet file.
    """
    given = [paths] if isinstance(paths, str | PathLike) else paths
    if not isinstance(given, Sequence) or not given or not all(_is_path(path) for path in given):
        raise ConfigError(
            f"dataset parquet: expected path as a file, a folder, a pattern or a list of them, got "
            f"{paths!r}; set data.path"
        )
    found = (file for path in given for file in _files_of(os.fspath(path)))
    return list(dict.fromkeys(found))


def _is_path(path: object) -> bool:
    return isinstance(path, str | PathLike) and bool(os.fspath(path))


def _files_of(name: str) -> Iterable[Path]:
    path = Path(name)
    if path.is_dir():
        files = list(_files_below(path))
        if not files:
            raise DataError(
                f"{path}: expected a folder with files named *.parquet, got one without; check "
                "data.path"
            )
        return files
    if path.exists():
        return [path]
    if not glob.has_magic(name):
        raise DataError(f"{path}: no such file or folder; check data.path")
    files = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
    files = [file for file in files if not file.is_dir()]
    if not files:
        raise DataError(f"{name}: no file matches this pattern; check data.path")
    return files


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, names, inside in os.walk(folder):
        names[:] = sorted(name for name in names if _is_shown(name))
        for name in sorted(inside):
            if name.endswith(".parquet") and _is_shown(name):
                yield Path(parent, name)


def _is_shown(name: str) -> bool:
    """Return True unless a name is hidden, or one of those that writers leave beside their data."""
    return not name.startswith((".", "_"))
