"""Which checkpoints of a run are kept.

What does not live here: how one is deleted (``litter``), and what is measured (the run).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tisslm.checkpoint.damage import DamagedError
from tisslm.checkpoint.litter import delete
from tisslm.checkpoint.manifest import Manifest, read_manifest
from tisslm.checkpoint.naming import step_of
from tisslm.config.metrics import resolve_mode
from tisslm.system.durable import DISK, Disk

__all__ = ["Retention", "by_metric", "prune"]

Listed = Sequence[tuple[Path, Manifest]]


@dataclass(frozen=True)
class Retention:
    """What is kept; a checkpoint that any of these wants stays.

    Attributes
    ----------
    newest : int
        The newest so many; 0 keeps all.
    best : int
        So many with the best values of ``metric``.
    every : int
        Those of steps that this divides; 0: none for that reason.
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
    """Return the checkpoints that have a metric, best first; of equal ones, the earlier first."""
    sign = -1.0 if resolve_mode(metric, mode) == "max" else 1.0
    found = [
        (sign * manifest.metrics[metric], manifest.step, path)
        for path, manifest in listed
        if metric in manifest.metrics
    ]
    return [path for _, _, path in sorted(found)]


def prune(folder: Path, retention: Retention, written: Path, *, disk: Disk = DISK) -> None:
    """Delete the checkpoints of a folder that nothing keeps.

    ``written``, the newest in time, stays whatever its number: it was complete a moment ago, so
    there is always one. Directories without a valid manifest are not touched.

    What cannot be deleted now is tried again after the next save.

    Parameters
    ----------
    folder : Path
    retention : Retention
    written : Path
        What ``write`` has returned just now.
    disk : Disk
    """
    if retention.newest == 0:
        return
    for path in _unwanted(_listed(folder), retention, written):
        with contextlib.suppress(OSError):  # a leftover costs space, never the run
            delete(path, disk)


def _unwanted(listed: Listed, retention: Retention, written: Path) -> list[Path]:
    """Return what nothing keeps, oldest step first."""
    others = [path for path, _ in listed if path != written]
    kept = {written, *others[max(0, len(others) - retention.newest + 1) :]}
    kept.update(by_metric(listed, retention.metric, retention.mode)[: retention.best])
    for path, manifest in listed:
        if retention.every and manifest.step and manifest.step % retention.every == 0:
            kept.add(path)
    return [path for path in others if path not in kept]


def _listed(folder: Path) -> list[tuple[Path, Manifest]]:
    """Return the checkpoints with their manifests, oldest step first."""
    found, entries = [], []
    with contextlib.suppress(OSError):
        entries = list(folder.iterdir())
    for path in entries:
        if step_of(path.name) is not None:
            with contextlib.suppress(DamagedError):
                found.append((path, read_manifest(path)))
    return sorted(found, key=lambda item: item[1].step)
