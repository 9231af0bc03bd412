"""Resolving a path to a checkpoint: the named one, or the newest or best one that verifies.

Checksums are compared in ``verification``; which checkpoints are kept is decided in ``retention``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tisslm.checkpoint.declared_metrics import declared_metrics
from tisslm.checkpoint.files import TRAINER
from tisslm.checkpoint.manifest import MANIFEST, DamagedError, Manifest, has_manifest, read_manifest
from tisslm.checkpoint.naming import ASIDE, step_of, temporaries
from tisslm.checkpoint.retention import by_metric
from tisslm.checkpoint.run_files import CONFIG
from tisslm.checkpoint.verification import verify
from tisslm.config.metrics import METRICS, resolve_mode
from tisslm.errors import CheckpointError
from tisslm.system.safe_files import CHECKPOINT
from tisslm.system.strict_toml import read_toml

__all__ = [
    "Found",
    "NoCheckpointError",
    "Where",
    "best",
    "directories",
    "find",
    "find_newest",
    "list_checkpoints",
]
__all__ += ["newest", "resolve"]

BEST = "best"
_FOUNDING_NAME = re.compile(r"checkpoint_step_(\d+)(\.bin)?")


@dataclass(frozen=True)
class Found:
    """A checkpoint whose files agreed with its manifest when it was looked up.

    Attributes
    ----------
    path : Path
        The checkpoint's directory.
    manifest : Manifest
    """

    path: Path
    manifest: Manifest


#: A path that stands for a checkpoint, or a checkpoint that was found before.
Where = str | Path | Found


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder by ascending step, without verifying them."""
    return [path for path in reversed(_candidates(folder)) if has_manifest(path)]


def newest(folder: Path) -> Path | None:
    """Return the path of the checkpoint that ``find_newest`` finds."""
    found = find_newest(folder)
    return None if found is None else found.path


def find_newest(folder: Path) -> Found | None:
    """Return the newest checkpoint of a folder that verifies, or None if there is none at all.

    Warns
    -----
    RuntimeWarning
        If a newer one is damaged; it is left where it is.

    Raises
    ------
    CheckpointError
        If there are checkpoints, and none of them verifies.
    """
    return _first_whole(folder, _candidates(folder))


def resolve(path: Where) -> Path:
    """Return the path of the checkpoint that ``find`` finds."""
    return find(path).path


def find(path: Where) -> Found:
    """Return the checkpoint that a path stands for, verified.

    Parameters
    ----------
    path : str, Path or Found
        A ``Found`` is returned unchanged, and not verified again. A path may be a checkpoint; a
        folder of checkpoints or a run directory, of which the newest checkpoint that verifies is
        taken; ``RUN/best``; or the founding name ``checkpoint_step_N.bin`` for ``checkpoint-N``.

    Warns
    -----
    RuntimeWarning
        If a newer one, or a better one, was passed over because it is damaged.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, or the one that is named is damaged.
    """
    if isinstance(path, Found):
        return path
    path = Path(path)
    founding = _FOUNDING_NAME.fullmatch(path.name)
    if founding and not path.exists():
        path = path.with_name(f"checkpoint-{founding[1]}")
    if path.name == BEST and not path.exists() and path.parent.is_dir():
        return _find_best(path.parent)
    step = step_of(path.name)
    if step is not None and not path.exists():  # it may have been put aside to be replaced
        path = next((p for number, _, p in _named(path.parent) if number == step), path)
    if _is_one(path):
        return Found(path, verify(path))
    for folder in _folders(path):
        found = find_newest(folder)
        if found is not None:
            return found
    raise _none(path)


def best(run: str | Path, metric: str = "", mode: str = "") -> Path:
    """Return the checkpoint of a run with the best value of a metric, of those that verify.

    Parameters
    ----------
    run : str or Path
        A run directory or a folder of checkpoints.
    metric : str
        Such as "eval/loss"; "" means the run's ``training.best_metric``.
    mode : {"", "auto", "min", "max"}
        Whether less or more is better; "" means the run's ``training.best_mode``.

    Raises
    ------
    CheckpointError
        If no checkpoint has a value of the metric, or none of them verifies.
    """
    return _find_best(Path(run), metric, mode).path


def _find_best(run: Path, metric: str = "", mode: str = "") -> Found:
    folder, sorted_by_metric = _by_metric(run, metric, mode)
    found = _first_whole(folder, sorted_by_metric)
    if found is None:
        raise _none(run)
    return found


def _by_metric(run: Path, metric: str = "", mode: str = "") -> tuple[Path, list[Path]]:
    """Return the folder of a run's checkpoints, and those with a metric, best first."""
    settings = _training(run)
    metric = metric or str(settings.get("best_metric", "eval/loss"))
    mode = mode or str(settings.get("best_mode", "auto"))
    if metric not in METRICS and mode == "auto":
        mode = resolve_mode(metric, mode, declared_metrics(run))
    for folder in _folders(run):
        listed = [(path, read_manifest(path)) for path in list_checkpoints(folder)]
        found = by_metric(listed, metric, mode)
        if found:
            return folder, found
        if listed:
            known = sorted({name for _, manifest in listed for name in manifest.metrics})
            raise CheckpointError(
                f"{run}: none of its {len(listed)} checkpoints has a value of {metric}; they have "
                f"{', '.join(known) or 'no metrics'}. Evaluate at the steps that are saved, or "
                "name a checkpoint"
            )
    raise _none(run)


# --------------------------------------------------------------------------- looking


def directories(path: Path) -> list[Path]:
    """Return every directory at a path that is, or was to become, a checkpoint; none is verified.

    Parameters
    ----------
    path : Path
        A checkpoint, a folder of checkpoints, a run directory, or ``RUN/best`` (the best by its
        metric, damaged or not).

    Raises
    ------
    CheckpointError
        If there is none.
    """
    if _is_one(path):
        return [path]
    if path.name == BEST and not path.exists() and path.parent.is_dir():
        return [_by_metric(path.parent)[1][0]]
    for folder in _folders(path):
        found = list(reversed(_candidates(folder)))
        if folder.is_dir():
            found += sorted(folder.glob("superseded-checkpoint-*"))
        if found:
            return found
    raise _none(path)


def _is_one(path: Path) -> bool:
    """Return True for a checkpoint, whole or not; False for a folder of checkpoints."""
    by_content = (path / MANIFEST).exists() or (path / TRAINER.name).exists()
    return by_content or (step_of(path.name) is not None and path.is_dir())


def _candidates(folder: Path) -> list[Path]:
    """Return possible checkpoints, newest step first; one put aside follows its replacement."""
    return [path for _, _, path in sorted(_named(folder), reverse=True)]


def _named(folder: Path) -> Iterator[tuple[int, bool, Path]]:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        step = step_of(path.name)
        if step is not None and path.is_dir():
            yield step, True, path
    for found in temporaries(folder):
        if found.kind == ASIDE:
            yield found.step, False, found.path


def _first_whole(folder: Path, candidates: Iterable[Path]) -> Found | None:
    """Return the first candidate that verifies; warn of those before it."""
    damaged: list[DamagedError] = []
    for path in candidates:
        try:
            found = Found(path, verify(path))
        except DamagedError as error:
            damaged.append(error)
            continue
        for newer in damaged:
            warnings.warn(_passed_over(newer, path), RuntimeWarning, stacklevel=4)
        return found
    if not damaged:
        return None
    if len(damaged) == 1:
        raise damaged[0]
    raise CheckpointError(
        f"{folder}: none of its {len(damaged)} checkpoints can be used; of the newest, "
        f"{damaged[0].folder.name}, {damaged[0].problem}. Put one back from a copy, or start anew "
        "in another directory"
    )


def _passed_over(error: DamagedError, chosen: Path) -> str:
    return f"{error.folder} is damaged ({error.problem}); taking {chosen.name} instead"


def _folders(path: Path) -> list[Path]:
    """Return the folders in which the checkpoints of a path may lie."""
    own = str(_training(path).get("checkpoint_dir", ""))
    return [path, path / "checkpoints", *([path / own] if own else [])]


def _training(run: Path) -> Mapping[str, Any]:
    """Return the ``[training]`` section of a run directory, or nothing."""
    try:
        section = read_toml(run / CONFIG, CHECKPOINT)["training"]
    except (CheckpointError, KeyError):
        return {}
    return section if isinstance(section, dict) else {}


class NoCheckpointError(CheckpointError):
    """A path that stands for no checkpoint, whole or damaged."""


def _none(path: Path) -> NoCheckpointError:
    what = "no such checkpoint"
    if path.exists():
        what = (
            "holds no checkpoint" if path.is_dir() else "is a file, and a checkpoint is a directory"
        )
    return NoCheckpointError(
        f"{path}: {what}; give a directory checkpoint-N, or a run directory that contains one"
    )
