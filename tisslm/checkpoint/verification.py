"""Verifying a checkpoint: comparing its files with the sizes and SHA-256 of its manifest.

Files are hashed by several threads. Results are not cached: a caller that has verified a checkpoint
hands on a ``finding.Found``. What follows from damage is decided in ``finding``.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tisslm.checkpoint.manifest import (
    MANIFEST,
    Damage,
    DamagedError,
    Manifest,
    Problem,
    read_manifest,
)
from tisslm.system.durable import FileRecord
from tisslm.system.safe_files import RegularFile

__all__ = ["problems", "unlisted", "verify"]

_THREADS = 4
_SMALL = 2**20  # bytes up to which a file is not worth a thread
_SHOWN = 12  # digits of a SHA-256 that a message shows


def verify(folder: Path) -> Manifest:
    """Check every file of a checkpoint and return its manifest.

    Raises
    ------
    DamagedError
        If it is no checkpoint, or a file has changed since it was written.
    """
    manifest = read_manifest(folder)
    for problem in _compare(folder, manifest):
        raise DamagedError(folder, problem)
    return manifest


def problems(folder: Path) -> list[Problem]:
    """Return everything that is wrong with a checkpoint, hashing every file."""
    try:
        manifest = read_manifest(folder)
    except DamagedError as error:
        return [error.problem]
    return _compare(folder, manifest)


# --------------------------------------------------------------------------- comparing


def _compare(folder: Path, manifest: Manifest) -> list[Problem]:
    """Compare all files with the manifest; large ones on threads."""
    files = sorted(manifest.files.items())
    if sum(record.size > _SMALL for _, record in files) < 2:
        found = [_check(folder / name, record) for name, record in files]
    else:
        with ThreadPoolExecutor(_THREADS, "tisslm-verify") as threads:
            found = list(threads.map(lambda f: _check(folder / f[0], f[1]), files))
    return [problem for problem in found if problem is not None]


def _check(path: Path, record: FileRecord) -> Problem | None:
    """Compare one file with its record, the size first because it costs nothing."""
    expected = f"a file of {record.size} bytes"
    if not os.path.lexists(path):
        return Problem(path.name, expected, "none")
    try:
        with RegularFile(path, Damage(what=expected)) as file:
            if file.size != record.size:
                return Problem(path.name, f"{record.size} bytes", f"{file.size}")
            if file.is_hollow():  # a hash of nothing, which would take hours
                return Problem(path.name, expected, "one of holes, larger than the memory")
            digest = file.sha256()
    except DamagedError as error:
        return error.problem
    if digest != record.sha256:
        return Problem(path.name, f"SHA-256 {record.sha256[:_SHOWN]}...", f"{digest[:_SHOWN]}...")
    return None


def unlisted(folder: Path, manifest: Manifest) -> list[str]:
    """Return the names in a checkpoint's directory that its manifest lacks; they are never read."""
    return sorted(set(os.listdir(folder)) - {MANIFEST, *manifest.files})
