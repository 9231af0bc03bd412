"""Which checkpoints of a run are kept, and the deletion of all others.

A checkpoint is deleted in ``litter``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tisslm.checkpoint.litter import delete
from tisslm.checkpoint.manifest import DamagedError, Manifest, read_manifest
from tisslm.checkpoint.naming import step_of
from tisslm.config.metrics import resolve_mode
from tisslm.system.durable import DISK, Disk

__all__ = ["Retention", "by_metric", "prune"]

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
