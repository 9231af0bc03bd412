"""Whether the files of a checkpoint are what its manifest says: sizes and SHA-256.

Files are hashed by several threads. What has verified is remembered while its files do not change,
so a path that is looked up and then read is hashed once.

What does not live here: the manifest's own text (``manifest``), and what to do about damage
(``finding``).
"""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tisslm.checkpoint.manifest import (
    MANIFEST,
    DamagedError,
    FileRecord,
    Manifest,
    Problem,
    open_regular,
    read_manifest,
)

__all__ = ["problems", "verify"]

_THREADS = 4
_SMALL = 2**20  # bytes up to which a file is not worth a thread
_SECTOR = 512  # bytes of what stat counts as blocks
_SHOWN = 12  # digits of a SHA-256 that a message shows
_SETTLED = 0.1  # seconds after which a change shows in a file's times, on every file system

_Signature = tuple[tuple[int, ...], ...]
_verified: dict[Path, tuple[_Signature, Manifest]] = {}
_REMEMBERED = 64


def verify(folder: Path) -> Manifest:
    """Check every file of a checkpoint and return its manifest.

    Raises
    ------
    DamagedError
        If it is no checkpoint, or a file is not what it was when it was written.
    """
    manifest = read_manifest(folder)
    key, signature = folder.absolute(), _signature(folder, manifest)
    if signature is not None and _verified.get(key) == (signature, manifest):
        return manifest
    began = time.time_ns()
    for problem in _compare(folder, manifest):
        raise DamagedError(folder, problem)
    _remember(key, signature, manifest, began)
    return manifest


def problems(folder: Path) -> list[Problem]:
    """Return all that is wrong with a checkpoint, hashing every file anew."""
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
    """Compare one file: its size first, which costs nothing."""
    expected = f"a file of {record.size} bytes"
    try:
        with open(open_regular(path), "rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            if found.st_size != record.size:
                return Problem(path.name, f"{record.size} bytes", f"{found.st_size}")
            if _is_hollow(found):  # a hash of nothing, which would take hours
                return Problem(path.name, expected, "one of holes, larger than the memory")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return Problem(path.name, expected, "none")
    except ValueError as error:
        return Problem(path.name, expected, str(error))
    except OSError as error:
        return Problem(path.name, expected, f"an error ({error.strerror})")
    if digest != record.sha256:
        return Problem(path.name, f"SHA-256 {record.sha256[:_SHOWN]}...", f"{digest[:_SHOWN]}...")
    return None


def _is_hollow(found: os.stat_result) -> bool:
    """Tell a file that is larger than the memory and takes next to nothing of the disk."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return found.st_size > memory and found.st_blocks * _SECTOR < found.st_size // 64


# --------------------------------------------------------------------------- remembering


def _signature(folder: Path, manifest: Manifest) -> _Signature | None:
    """Return what changes when a file is changed or replaced; None if one is not there."""
    try:
        stats = [(folder / name).lstat() for name in (MANIFEST, *sorted(manifest.files))]
    except OSError:
        return None
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats)


def _remember(key: Path, signature: _Signature | None, manifest: Manifest, began: int) -> None:
    """Keep a result, unless a change after it could have the same times as the last one before."""
    if signature is None or max(times[-1] for times in signature) > began - _SETTLED * 1e9:
        return
    if len(_verified) >= _REMEMBERED:
        _verified.clear()
    _verified[key] = (signature, manifest)
