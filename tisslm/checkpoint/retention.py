"""Which checkpoints of a run are kept; deleting the others, and what dead processes have left."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tisslm.checkpoint.manifest import MANIFEST, DamagedError, Manifest, read_manifest
from tisslm.checkpoint.naming import (
    ASIDE,
    OLD,
    Temporary,
    step_of,
    target,
    temporaries,
    temporary,
    using,
)
from tisslm.checkpoint.verification import verify
from tisslm.config.metrics import resolve_mode
from tisslm.system.durable import DISK, Disk

__all__ = ["Retention", "by_metric", "clean", "delete", "prune"]

Listed = Sequence[tuple[Path, Manifest]]


@dataclass(frozen=True)
class Retention:
    """The rules by which checkpoints are kept; one that satisfies any rule stays.

    Attributes
    ----------
    newest : int
        How many of the newest to keep; 0 keeps all.
    best : int
        How many with the best values of ``metric`` to keep.
    every : int
        Checkpoints whose step is a multiple of it are kept; 0 switches this off.
    metric : str
    mode : {"auto", "min", "max"}
        Whether less or more is better.
    """

    newest: int = 3
    best: int = 0
    every: int = 0
    metric: str = "eval/loss"
    mode: str = "auto"


def by_metric(listed: Listed, metric: str, mode: str) -> list[Path]:
    """Return the checkpoints that have a metric, best first, and ties by ascending step."""
    sign = -1.0 if resolve_mode(metric, mode) == "max" else 1.0
    found = [
        (sign * manifest.metrics[metric], manifest.step, path)
        for path, manifest in listed
        if metric in manifest.metrics
    ]
    return [path for _, _, path in sorted(found)]


def prune(folder: Path, retention: Retention, written: Path, *, disk: Disk = DISK) -> None:
    """Delete the checkpoints of a folder that no rule keeps.

    ``written``, the latest one, stays whatever its step: it was complete a moment ago, so there is
    always one. Directories without a valid manifest are not touched. A checkpoint that cannot be
    deleted now is tried again after the next save.

    Parameters
    ----------
    folder : Path
    retention : Retention
    written : Path
        The checkpoint that ``write`` has just returned.
    disk : Disk
    """
    if retention.newest == 0:
        return
    for path in _unwanted(_listed(folder), retention, written):
        with contextlib.suppress(OSError):  # a leftover costs space, never the run
            delete(path, disk)


def _unwanted(listed: Listed, retention: Retention, written: Path) -> list[Path]:
    """Return the checkpoints that no rule keeps, by ascending step."""
    others = [path for path, _ in listed if path != written]
    kept = {written, *others[max(0, len(others) - retention.newest + 1) :]}
    kept.update(by_metric(listed, retention.metric, retention.mode)[: retention.best])
    for path, manifest in listed:
        if retention.every and manifest.step and manifest.step % retention.every == 0:
            kept.add(path)
    return [path for path in others if path not in kept]


def _listed(folder: Path) -> list[tuple[Path, Manifest]]:
    """Return the checkpoints with their manifests, by ascending step."""
    found, entries = [], []
    with contextlib.suppress(OSError):
        entries = list(folder.iterdir())
    for path in entries:
        if step_of(path.name) is not None:
            with contextlib.suppress(DamagedError):
                found.append((path, read_manifest(path)))
    return sorted(found, key=lambda item: item[1].step)


def delete(path: Path, disk: Disk = DISK) -> None:
    """Delete a checkpoint; it is renamed first, so that a half-deleted one is never found."""
    doomed = temporary(path, OLD)
    with using(doomed):
        if doomed.exists():  # of a process that was killed with the same number
            disk.remove(doomed, first=MANIFEST)
        disk.rename(path, doomed)
        disk.remove(doomed, first=MANIFEST)


def clean(folder: Path, disk: Disk = DISK) -> None:
    """Remove unfinished directories of dead processes, and restore a checkpoint put aside.

    What cannot be removed costs space and never the run. Call it where no other process writes
    to the folder.

    Parameters
    ----------
    folder : Path
        Need not exist.
    disk : Disk
    """
    if not folder.is_dir():
        return
    for found in list(temporaries(folder)):
        if found.is_dead:
            with contextlib.suppress(OSError):
                if found.kind != ASIDE or _is_replaced(found, disk):
                    disk.remove(found.path, first=MANIFEST)


def _is_replaced(found: Temporary, disk: Disk) -> bool:
    """Return True if a checkpoint that was put aside is not needed; if it is, put it back."""
    successor = target(found.path.parent, found.step)
    if successor.is_dir():
        if _is_whole(successor):
            disk.sync_directory(found.path.parent)  # the process may have died before it did
            return True
        if not _is_whole(found.path):
            return True
        delete(successor, disk)
    disk.rename(found.path, successor)
    return False


def _is_whole(path: Path) -> bool:
    try:
        verify(path)
    except DamagedError:
        return False
    return True
