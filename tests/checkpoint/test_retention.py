"""Which checkpoints are kept, and which is the best."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from checkpoints import flip, names
from crash.saver import tiny

from tisslm import checkpoint
from tisslm.checkpoint.manifest import MANIFEST
from tisslm.checkpoint.retention import Retention
from tisslm.errors import CheckpointError
from tisslm.system.durable import Disk

LOSSES = {1: 5.0, 2: 1.0, 3: 4.0, 4: 2.0, 5: 3.0, 6: 9.0}


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        (Retention(newest=0), [1, 2, 3, 4, 5, 6]),
        (Retention(newest=1), [6]),
        (Retention(newest=3), [4, 5, 6]),
        *((Retention(newest=n), [1, 2, 3, 4, 5, 6][-n:]) for n in (4, 5, 6, 7, 11, 100)),
        (Retention(newest=1, best=2), [2, 4, 6]),
        (Retention(newest=1, best=2, mode="max"), [1, 6]),
        (Retention(newest=1, best=9), [1, 2, 3, 4, 5, 6]),
        (Retention(newest=1, best=2, metric="train/loss"), [6]),
        (Retention(newest=2, every=3), [3, 5, 6]),
        (Retention(newest=1, best=1, every=4), [2, 4, 6]),
    ],
)
def test_what_is_kept(tmp_path, retention, kept):
    for step, loss in LOSSES.items():
        path = checkpoint.write(tmp_path, step, tiny(loss))
    checkpoint.prune(tmp_path, retention, path)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in kept]


def test_what_was_written_stays_whatever_its_number_and_value(tmp_path):
    for step in (5, 9, 3):
        path = checkpoint.write(tmp_path, step, tiny(float(step)))
    checkpoint.prune(tmp_path, Retention(newest=1), path)
    assert names(tmp_path) == ["checkpoint-3"]


def test_only_checkpoints_are_deleted(run):
    folder = run / "checkpoints"
    (folder / "checkpoint-1" / MANIFEST).unlink()
    (folder / "notes").mkdir()
    checkpoint.prune(folder, Retention(newest=1), folder / "checkpoint-10")
    assert names(folder) == ["checkpoint-1", "checkpoint-10", "notes"]


def test_what_cannot_be_deleted_does_not_keep_the_others(run):
    folder = run / "checkpoints"

    class Refusing(Disk):
        def rename(self, old: Path, new: Path) -> None:
            if old.name == "checkpoint-1":
                raise PermissionError(errno.EACCES, "Permission denied")
            super().rename(old, new)

    checkpoint.prune(folder, Retention(newest=1), folder / "checkpoint-10", disk=Refusing())
    assert names(folder) == ["checkpoint-1", "checkpoint-10"]


def test_of_a_link_to_a_checkpoint_the_link_is_deleted(run, tmp_path):
    folder, archive = run / "checkpoints", tmp_path / "archive"
    (folder / "checkpoint-2").rename(archive)
    (folder / "checkpoint-2").symlink_to(archive)
    checkpoint.prune(folder, Retention(newest=1), folder / "checkpoint-10")
    assert names(folder) == ["checkpoint-10"]
    assert checkpoint.problems(archive) == []


def test_the_best_is_found_by_the_runs_own_metric(run):
    assert checkpoint.best(run).name == "checkpoint-1"
    assert checkpoint.resolve(run / "best").name == "checkpoint-1"
    (run / "config.resolved.toml").write_text('[training]\nbest_mode = "max"\n')
    assert checkpoint.resolve(run / "best").name == "checkpoint-10"
    flip(run / "checkpoints" / "checkpoint-10" / "model.safetensors")
    with pytest.warns(RuntimeWarning, match="checkpoint-10 is damaged .* taking checkpoint-2"):
        assert checkpoint.best(run).name == "checkpoint-2"


def test_a_best_that_nothing_was_measured_for(run, tmp_path):
    with pytest.raises(CheckpointError) as error:
        checkpoint.best(run, "eval/accuracy")
    assert str(error.value) == (
        f"{run}: none of its 3 checkpoints has a value of eval/accuracy; they have eval/loss. "
        "Evaluate at the steps that are saved, or name a checkpoint"
    )
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint.best(tmp_path)
