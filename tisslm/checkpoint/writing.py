"""Writing a checkpoint: a kill, an error or a power failure at any point leaves a whole one.

0. Parameters that are not finite are refused.
1. Litter of dead processes is removed.
2. A temporary directory is made, and each file is written and synced.
3. The manifest is written and synced, last of all.
4. The temporary directory is synced, and renamed to ``checkpoint-N``.
5. The folder is synced. Only then is anything older deleted (``retention``).

If ``checkpoint-N`` is there, it steps aside before 4 and is deleted after 5. In between, whoever
looks for it finds it aside (``finding``), and the next save puts it back (``retention``).

The operations on the disk are in ``system.durable``; what the files hold is in ``files``.
"""

from __future__ import annotations

import contextlib
import math
from itertools import takewhile
from pathlib import Path

from tisslm.checkpoint.manifest import MANIFEST, Manifest, render
from tisslm.checkpoint.model_files import as_written
from tisslm.checkpoint.naming import ASIDE, step_of, target, temporary, using
from tisslm.checkpoint.record import Checkpoint
from tisslm.checkpoint.retention import clean
from tisslm.errors import CheckpointError
from tisslm.memory.finite import check_finite
from tisslm.system.durable import DISK, Disk

__all__ = ["set_aside", "write"]

_ANCESTORS = 2  # the run directory, and the one that has its name


def write(
    folder: Path,
    step: int,
    checkpoint: Checkpoint,
    *,
    within: Path | None = None,
    disk: Disk = DISK,
) -> Path:
    """Write the checkpoint ``folder/checkpoint-<step>``; one of that name is replaced at the end.

    It may be called from a thread; two threads must not write to the same folder at once.

    Parameters
    ----------
    folder : Path
        Created if it is missing.
    step : int
    checkpoint : Checkpoint
    within : Path, optional
        A directory above the folder that is never created: if it is gone, nothing is written.
    disk : Disk

    Returns
    -------
    Path
        The checkpoint's directory, complete and on the disk.

    Raises
    ------
    NonFiniteError
        If a parameter, or a slot of the optimizer for one, is not finite; nothing was written.
    CheckpointError
        If it cannot be written; earlier checkpoints are untouched. The error of the operating
        system is its ``__cause__``.
    """
    place = target(folder, step)
    for file, arrays in checkpoint.arrays():
        check_finite(file.computed(arrays), file.called, str(place))
    new, aside = temporary(place), temporary(place, ASIDE)
    try:
        with using(new, aside):
            _make_folder(folder, within, disk)
            _discard(new, disk)  # of a process killed with the same number, which clean left
            disk.make_directory(new)
            _fill(new, step, checkpoint, disk)
            if disk.put(new, place, aside):
                _discard(aside, disk)
    except BaseException as error:
        _discard(new, disk)
        if isinstance(error, OSError):
            raise CheckpointError(
                f"{place}: the checkpoint could not be written ({error}); earlier checkpoints are "
                "untouched. Free space or choose another output_dir"
            ) from error
        raise
    return place


def _make_folder(folder: Path, within: Path | None, disk: Disk) -> None:
    """Create the folder if it is missing, and sync its entry before the first save."""
    clean(folder, disk)
    above = takewhile(lambda path: path != within, (folder, *folder.parents))
    missing = [path for path in above if not path.exists()]
    for path in reversed(missing):
        disk.make_directory(path)
    if missing or not any(folder.iterdir()):
        for path in folder.absolute().parents[: max(_ANCESTORS, len(missing))]:
            with contextlib.suppress(PermissionError):  # a name that others keep
                disk.sync_directory(path)


def _fill(new: Path, step: int, checkpoint: Checkpoint, disk: Disk) -> None:
    """Write all files, the manifest last."""
    files = {
        file.name: disk.write_file(new / file.name, file.blocks(content))
        for file, content in as_written(checkpoint)
    }
    metrics = {n: float(v) for n, v in checkpoint.metrics.items() if math.isfinite(v)}
    disk.write_file(new / MANIFEST, [render(Manifest(step, files, metrics))])
    disk.sync_directory(new)


def _discard(path: Path, disk: Disk) -> None:
    """Remove a directory that is no longer needed; failure costs space and never the run."""
    with contextlib.suppress(OSError):
        if path.exists():
            disk.remove(path, first=MANIFEST)


def set_aside(folder: Path, step: int, *, disk: Disk = DISK) -> list[Path]:
    """Rename the checkpoints of a folder that are later than ``step``.

    They belong to another run in the same directory, or to steps that are being replaced, or are
    damaged; a run that starts at ``step`` would meet them. Nothing is deleted: ``checkpoint-N``
    becomes ``superseded-checkpoint-N``, numbered if that exists.

    Returns
    -------
    list of Path
        The new names.
    """
    moved: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        number = step_of(path.name)
        if number is not None and number > step and path.is_dir():
            place, count = path.with_name(f"superseded-{path.name}"), 2
            while place.exists():
                place = path.with_name(f"superseded-{path.name}-{count}")
                count += 1
            disk.rename(path, place)
            moved.append(place)
    if moved:
        disk.sync_directory(folder)
    return moved
