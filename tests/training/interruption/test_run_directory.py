"""A run directory that vanishes while the run trains: saved whole where it is, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from interruptions import differences

from tisslm import checkpoint
from tisslm.contracts import Sink
from tisslm.errors import RunDirectoryError

WHOLE = {"config.resolved.toml", "environment.json", "summary.json", "checkpoints"}


class At(Sink):
    """Does something when the metrics of a step are written."""

    def __init__(self, step: int, action: Any) -> None:
        self.step, self.action = step, action

    def open(self, run):
        pass

    def write(self, step, metrics):
        if step == self.step and "train/loss" in metrics:
            self.action()


def remove(folder: Path) -> None:
    """Remove a directory at once: a thread may be writing in it."""
    shutil.rmtree(folder.rename(folder.with_name("removed")))


def tree(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def lost(make_trainer, action, step=3, sinks=("jsonl",), **config):
    """Train until the directory has gone, and return the message."""
    trainer = make_trainer(sinks=(*sinks, At(step, action)), **config)
    with pytest.raises(RunDirectoryError) as caught:
        trainer.train()
    return str(caught.value)


SAVES = [
    {},
    {"save_every": 1},
    {"save_every": 1, "async_save": True},
    {"save_every": 3, "keep_checkpoints": 1, "restore_best": True},
]


@pytest.mark.parametrize("config", SAVES)
@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_run_whose_directory_is_renamed_is_saved_there(make_trainer, tmp_path, config, step):
    make_trainer("whole", **config).train()
    run, other = tmp_path / "run", tmp_path / "elsewhere"
    message = lost(make_trainer, lambda: run.rename(other), step, ("jsonl", "csv"), **config)
    assert message == (
        f"{run}: the run directory was renamed to {other} while the run trained; the run was saved "
        f"in {other} at step {step} and ends; go on there with training.output_dir and --resume "
        "auto"
    )
    assert not run.exists()
    assert json.loads((other / "summary.json").read_text())["status"] == "failed"
    assert not (other / ".owner.json").exists()
    make_trainer("elsewhere", resume="auto", **config).train()
    assert differences(tmp_path / "whole", other) == []


@pytest.mark.parametrize("config", SAVES)
def test_a_run_whose_directory_is_removed_is_saved_in_a_new_one(make_trainer, tmp_path, config):
    make_trainer("whole", sinks=(), **config).train()
    run = tmp_path / "run"
    message = lost(make_trainer, lambda: remove(run), **config)
    assert message == (
        f"{run}: the run directory was removed while the run trained; the run was saved in {run} "
        "at step 3 and ends; go on there with training.output_dir and --resume auto"
    )
    assert tree(run) - {"best"} == WHOLE
    again = make_trainer("run", sinks=(), resume="auto", **config)
    assert again.current_step == 3
    again.train()
    (tmp_path / "whole/metrics.jsonl").touch()
    (run / "metrics.jsonl").touch()
    assert differences(tmp_path / "whole", run) == []


@pytest.mark.parametrize("config", SAVES)
@pytest.mark.parametrize("kept", [True, False])
def test_nothing_is_written_where_another_directory_lies(make_trainer, tmp_path, config, kept):
    run, other = tmp_path / "run", tmp_path / "elsewhere"

    def replace():
        run.rename(other)
        run.mkdir()
        (run / "metrics.jsonl").write_text("another's\n")
        if not kept:
            shutil.rmtree(other)

    message = lost(make_trainer, replace, **config)
    assert tree(run) == {"metrics.jsonl"}
    assert (run / "metrics.jsonl").read_text() == "another's\n"
    if kept:
        assert f"renamed to {other}" in message
        assert len(list((other / "checkpoints").iterdir())) > 0
    else:
        assert message == (
            f"{run}: the run directory was replaced by another one while the run trained, and "
            "nothing was written there; choose another training.output_dir"
        )
        assert not other.exists()


@pytest.mark.parametrize("leave", ["SIGTERM", "evaluation"])
def test_also_where_the_run_ends_for_another_reason(make_trainer, tmp_path, at_pass, leave):
    run = tmp_path / "run"

    def action():
        remove(run)
        if leave == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)

    at_pass(6, action)  # in the third step, whose window is dropped
    trainer = make_trainer(sinks=())
    with pytest.raises(RunDirectoryError, match="was removed while the run trained; the run was"):
        trainer.train()
    assert tree(run) == WHOLE


def test_a_loop_of_your_own_is_told(make_trainer, tmp_path):
    trainer = make_trainer(sinks=())
    trainer.save_checkpoint(0, 0)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="run: the run directory was removed while the run"):
        trainer.save_checkpoint(0, 1)
    assert not (tmp_path / "run").exists()
    trainer.train()  # which begins one
    assert tree(tmp_path / "run") == WHOLE


def test_the_folder_of_checkpoints_is_made_again_where_it_was_removed(make_trainer, tmp_path):
    checkpoints = tmp_path / "run/checkpoints"
    trainer = make_trainer("run", sinks=(At(2, lambda: shutil.rmtree(checkpoints)),), save_every=3)
    trainer.train()
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-3", "checkpoint-6"]


def test_a_directory_that_takes_the_place_just_before_a_save_is_left_alone(
    make_trainer, tmp_path, monkeypatch
):
    """The name led to the run when it was looked at, and to another one when it was written to."""
    run, other = tmp_path / "run", tmp_path / "elsewhere"
    trainer, write = make_trainer("run", sinks=(), save_every=2), checkpoint.write

    def replace_and_write(*arguments, **options):
        if not other.exists():
            run.rename(other)
            run.mkdir()
        return write(*arguments, **options)

    monkeypatch.setattr(checkpoint, "write", replace_and_write)
    with pytest.raises(RunDirectoryError, match=f"renamed to {other}"):
        trainer.train()
    assert tree(run) == set()
