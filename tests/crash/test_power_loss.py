"""After a power failure at any point of a save, a checkpoint is found: the old one or the new one.

The model is tested, too: it must find states that cannot be recovered in protocols that are almost
right.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash import power, saver
from crash.test_system_calls import value_of

from tisslm import checkpoint
from tisslm.checkpoint.manifest import MANIFEST
from tisslm.checkpoint.naming import target
from tisslm.errors import CheckpointError
from tisslm.system.durable import Disk

DEAD = 2**22 + 1  # above the largest number that a process can have
ONLY = checkpoint.Retention(newest=1)


def two(folder: Path) -> None:
    saver.prepare("next", folder)


def none(folder: Path) -> None:
    folder.mkdir(parents=True)


def interrupted(folder: Path) -> None:
    """What a process leaves that was killed while it replaced a checkpoint."""
    checkpoint.write(folder, 2, saver.tiny(4.0))
    (folder / "checkpoint-2").rename(folder.parent / "new")
    two(folder)
    (folder / "checkpoint-2").rename(folder / f".tmp-aside-checkpoint-2-{DEAD}")
    (folder.parent / "new").rename(folder / f".tmp-checkpoint-2-{DEAD}")
    shutil.copytree(folder / "checkpoint-1", folder / f".tmp-old-checkpoint-0-{DEAD}")


def replaced(folder: Path) -> None:
    """What one leaves that was killed just after it had replaced a checkpoint."""
    two(folder)
    shutil.copytree(folder / "checkpoint-1", folder / f".tmp-aside-checkpoint-2-{DEAD}")


def save(step: int, retention: checkpoint.Retention) -> Callable[[power.RecordingDisk, Path], None]:
    def run(disk: power.RecordingDisk, folder: Path) -> None:
        path = checkpoint.write(folder, step, saver.tiny(3.0), disk=disk)
        disk.save_returned()
        checkpoint.prune(folder, retention, path, disk=disk)

    return run


def lost(disk: power.RecordingDisk, quick: Path, before: float | None) -> Iterator[str]:
    """Yield the operations after which there is a state that cannot be recovered."""
    place = quick / "state"
    for number, (state, label) in enumerate(disk.states.items()):
        power.restore(state, place)
        allowed = {3.0} if state in disk.after else {before, 3.0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of what is passed over
            try:
                value = value_of(place / "checkpoints")
            except CheckpointError:
                value = -1.0
        if value not in allowed:
            yield label
        elif number % 5 == 0:  # the next save works, and nothing is left of this one
            checkpoint.write(place / "checkpoints", 9, saver.tiny(9.0), disk=Unsynced())
            assert value_of(place / "checkpoints") == 9.0
            mine = f"-{DEAD}", f"-{os.getpid()}"
            assert not [p for p in (place / "checkpoints").iterdir() if p.name.endswith(mine)]
        shutil.rmtree(place)


class Unsynced(Disk):
    """A disk for what is looked at once: it does not wait."""

    def sync_directory(self, path: Path) -> None:
        pass


@pytest.mark.parametrize(
    ("start", "before", "step", "retention"),
    [
        (none, None, 1, ONLY),
        (two, 2.0, 3, checkpoint.Retention(newest=2)),
        (two, 2.0, 3, ONLY),
        (two, 2.0, 2, ONLY),
        (interrupted, 2.0, 2, ONLY),
        (replaced, 2.0, 3, ONLY),
    ],
)
def test_no_state_is_lost(quick, start, before, step, retention):
    folder = quick / "run" / "checkpoints"
    start(folder)
    disk = power.RecordingDisk(quick / "run")
    save(step, retention)(disk, folder)
    assert len(disk.states) > 60
    assert list(lost(disk, quick, before)) == []


# --------------------------------------------------------------------------- almost right


def in_place(disk: power.RecordingDisk, folder: Path) -> None:
    """Write over the checkpoint that is there, file by file, each synced."""
    path = target(folder, 2)
    for name, content in contents(folder).items():
        disk._unlink(path / name)
        disk.write_file(path / name, [content])
    disk.sync_directory(path)
    disk.save_returned()


def manifest_first(disk: power.RecordingDisk, folder: Path) -> None:
    """Let the manifest be the commit, and write the files that it promises afterwards."""
    path, files = target(folder, 3), contents(folder)
    disk.make_directory(path)
    disk.write_file(path / MANIFEST, [files.pop(MANIFEST)])
    disk.sync_directory(path)
    disk.sync_directory(folder)
    checkpoint.prune(folder, ONLY, path, disk=disk)
    for name, content in files.items():
        disk.write_file(path / name, [content])
    disk.sync_directory(path)
    disk.save_returned()


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a checkpoint of step 2 or 3 with the number 3."""
    elsewhere = folder.parents[1] / "elsewhere"
    path = checkpoint.write(elsewhere, 3, saver.tiny(3.0))
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


@pytest.mark.parametrize(
    ("protocol", "weakness"),
    [
        (save(3, ONLY), {"sync_files": False}),
        (save(3, ONLY), {"sync_folder": False}),
        (manifest_first, {}),
        (in_place, {}),
    ],
    ids=["files not synced", "pruned before the rename is synced", "manifest first", "in place"],
)
def test_the_model_finds_what_weaker_protocols_lose(quick, protocol, weakness):
    folder = quick / "run" / "checkpoints"
    two(folder)
    disk = power.RecordingDisk(quick / "run", **weakness)
    protocol(disk, folder)
    assert next(lost(disk, quick, 2.0), None) is not None
