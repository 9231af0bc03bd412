"""What a dead process left in a folder: removed, or put back where it stood.

What does not live here: how one tells that a process is dead (``naming``).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from tisslm.checkpoint.manifest import MANIFEST, DamagedError
from tisslm.checkpoint.naming import ASIDE, OLD, Temporary, target, temporaries, temporary, using
from tisslm.checkpoint.verification import verify
from tisslm.system.durable import DISK, Disk

__all__ = ["clean", "delete"]


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
    """Tell whether what was put aside is needed no more; if it is needed, put it back."""
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


def delete(path: Path, disk: Disk = DISK) -> None:
    """Delete a checkpoint: renamed first, so that one half deleted never looks like one."""
    doomed = temporary(path, OLD)
    with using(doomed):
        if doomed.exists():  # of a process that was killed with the same number
            disk.remove(doomed, first=MANIFEST)
        disk.rename(path, doomed)
        disk.remove(doomed, first=MANIFEST)
