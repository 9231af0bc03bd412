"""Saves that the disk refuses, and saves behind the training's back."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm import checkpoint
from tisslm.checkpoint import MODEL, TRAINER_ARRAYS, Checkpoint
from tisslm.checkpoint.saver import BackgroundSaver, DirectSaver
from tisslm.errors import CheckpointError, ConfigError
from tisslm.memory.copies import ArrayCopy
from tisslm.registry import load_registry
from tisslm.training.memory_plan.planner import Planner

ASYNC = pytest.mark.parametrize("async_save", [False, True], ids=["direct", "background"])


@pytest.fixture
def fail_at(monkeypatch):
    """Make the writing of some steps' checkpoints fail as a disk does."""
    real = checkpoint.write

    def fail(*steps: int, number: int = errno.ENOSPC) -> None:
        def write(folder: Path, step: int, found: Checkpoint, **kwargs: Any) -> Path:
            if step in steps:
                try:
                    raise OSError(number, os.strerror(number))
                except OSError as error:
                    raise CheckpointError(f"{folder}: not written ({error})") from error
            return real(folder, step, found, **kwargs)

        monkeypatch.setattr(checkpoint, "write", write)

    return fail


def names(trainer: Any) -> list[str]:
    return sorted(path.name for path in trainer.run.checkpoints.iterdir())


def summary(trainer: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((trainer.run.path / "summary.json").read_text())
    return found


# --------------------------------------------------------------------------- failures


@ASYNC
@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES]
)
def test_a_disk_that_refuses_is_told_and_tried_again(
    make_trainer, fail_at, same, lines, async_save, number
):
    whole = make_trainer("whole")
    whole.train()
    fail_at(2, 3, number=number)
    trainer = make_trainer(save_every=1, keep_checkpoints=0, async_save=async_save)
    with pytest.warns(RuntimeWarning) as caught:
        trainer.train()
    assert [str(warning.message) for warning in caught] == [
        f"{trainer.run.checkpoints}: not written ([Errno {number}] {os.strerror(number)}). "
        "Training goes on and tries again when the next checkpoint is due"
    ] * 2
    assert names(trainer) == ["checkpoint-1", "checkpoint-4", "checkpoint-5", "checkpoint-6"]
    assert (summary(trainer)["status"], summary(trainer)["failed_saves"]) == ("completed", 0)
    assert same(whole, trainer)
    assert lines(whole) == lines(trainer)


@ASYNC
def test_stop_is_a_policy_too(make_trainer, fail_at, async_save):
    fail_at(2)
    trainer = make_trainer(save_every=1, on_save_error="stop", async_save=async_save)
    with pytest.raises(CheckpointError, match="not written"):
        trainer.train()
    assert names(trainer) == ["checkpoint-1"]
    found = summary(trainer)
    assert (found["status"], found["failed_saves"]) == ("failed", 1)


@ASYNC
def test_the_last_save_must_succeed(make_trainer, fail_at, async_save):
    fail_at(4, 5, 6)
    trainer = make_trainer(save_every=1, keep_checkpoints=0, async_save=async_save)
    with (
        pytest.warns(RuntimeWarning, match="Training goes on"),
        pytest.raises(CheckpointError, match="not written"),
    ):
        trainer.train()
    assert names(trainer) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    found = summary(trainer)
    assert (found["status"], found["failed_saves"]) == ("failed", 3)


@ASYNC
def test_a_mistake_is_no_fault_of_the_disk(make_trainer, monkeypatch, async_save):
    def write(*_: object, **__: object) -> Path:
        raise CheckpointError("w has type complex64")

    monkeypatch.setattr(checkpoint, "write", write)
    trainer = make_trainer(save_every=1, async_save=async_save)
    with pytest.raises(CheckpointError, match="w has type complex64"):
        trainer.train()


@ASYNC
def test_a_run_that_fails_has_what_was_being_written(make_trainer, at_pass, async_save):
    def fail() -> None:
        raise ValueError("a mistake")

    at_pass(9, fail)
    trainer = make_trainer(save_every=2, validation_frequency=0, async_save=async_save)
    with pytest.raises(ValueError, match="a mistake"):
        trainer.train()
    assert names(trainer) == ["checkpoint-2", "checkpoint-4"]
    assert not any(thread.name == "tisslm-save" for thread in threading.enumerate())


@pytest.mark.parametrize("call", ["write_bytes", "open"], ids=["at once", "a little later"])
def test_a_disk_that_is_full_from_the_beginning_is_named(make_trainer, monkeypatch, call):
    real = getattr(Path, call)

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if "probe" in path.name or "config" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, call, refuse)
    trainer = make_trainer(max_steps=1)
    with pytest.raises(ConfigError) as caught:
        trainer.train()
    assert str(caught.value) == (
        f"training.output_dir: {str(trainer.run.path)!r} cannot be written (No space left on "
        "device); choose another directory or make room"
    )
    assert not [path for path in trainer.run.path.rglob("*") if path.is_file()]


def test_a_summary_that_cannot_be_written_is_no_failure(make_trainer, monkeypatch):
    real = Path.open

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if "summary" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    trainer = make_trainer(max_steps=1)
    with pytest.warns(RuntimeWarning, match=r"summary.json could not be written \(No space left"):
        trainer.train()
    assert trainer.current_step == 1


# --------------------------------------------------------------------------- in the background


def files(trainer: Any) -> dict[str, bytes]:
    folder = trainer.run.checkpoints
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_both_ways_write_the_same_bytes(make_trainer):
    direct, background = (
        make_trainer(folder, save_every=1, keep_checkpoints=0, async_save=way)
        for folder, way in (("a", False), ("b", True))
    )
    direct.train()
    background.train()
    assert files(direct) == files(background)
    assert len(names(background)) == 6


def test_a_checkpoint_is_of_its_step_however_slowly_it_is_written(make_trainer, monkeypatch):
    real = checkpoint.write
    gate = threading.Event()

    def slow(folder: Path, step: int, found: Checkpoint, **kwargs: Any) -> Path:
        if step == 1:
            gate.wait(60)
        return real(folder, step, found, **kwargs)

    monkeypatch.setattr(checkpoint, "write", slow)
    trainer = make_trainer("slow", save_every=4, keep_checkpoints=0, async_save=True)
    trainer.train()
    plain = make_trainer("plain", save_every=4, keep_checkpoints=0)
    plain.train()
    assert files(trainer) == files(plain)
    # By hand: the state is copied, changed, and only then written.
    written = {}

    def write(step: int, found: Checkpoint) -> Path:
        gate.wait(60)
        written[step] = {name: array.copy() for name, array in found[MODEL].items()}
        written[f"{step}'"] = list(found[TRAINER_ARRAYS]["loss_history"])
        return Path()

    state = trainer.session.take()
    before = {name: array.copy() for name, array in state[MODEL].items()}
    saver = BackgroundSaver(write, state)
    saver.save(7, state)
    trainer.model.parameters.data[:] = 0.0
    trainer.loss_history.append(0.5)
    gate.set()
    saver.wait()
    assert all(np.array_equal(before[name], written[7][name]) for name in before)
    assert written["7'"] == trainer.loss_history[:-1]


def test_a_save_waits_for_the_one_before(make_trainer):
    state = make_trainer().session.take()
    events: list[str] = []

    def write(step: int, found: Checkpoint) -> Path:
        events.append(f"begin {step}")
        time.sleep(0.05)
        events.append(f"end {step}")
        return Path()

    saver = BackgroundSaver(write, state)
    for step in (1, 2, 3):
        saver.save(step, state)
    saver.wait()
    assert events == [f"{what} {step}" for step in (1, 2, 3) for what in ("begin", "end")]


def test_a_save_waits_although_a_wait_before_it_was_interrupted(make_trainer, monkeypatch):
    state, gate, events = make_trainer().session.take(), threading.Event(), []

    def write(step: int, found: Checkpoint) -> Path:
        events.append(f"begin {step}")
        gate.wait(60 if step == 1 else 0)
        events.append(f"end {step}")
        return Path()

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        monkeypatch.undo()
        threading.Timer(0.05, gate.set).start()
        raise KeyboardInterrupt

    saver = BackgroundSaver(write, state)
    saver.save(1, state)
    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        saver.wait()
    saver.write_now(2, state)
    assert events == ["begin 1", "end 1", "begin 2", "end 2"]


def test_a_train_after_an_interrupted_one_waits_for_what_that_was_writing(
    make_trainer, monkeypatch, at_pass
):
    real, gate, events = checkpoint.write, threading.Event(), []

    def write(folder: Path, step: int, found: Checkpoint, **kwargs: Any) -> Path:
        if not events:
            events.append("begin")
            gate.wait(60)
            time.sleep(0.2)
            events.append("end")
        else:
            events.append(str(step))
        return real(folder, step, found, **kwargs)

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write", write)
    at_pass(3, interrupt)
    trainer = make_trainer(save_every=1, max_steps=3, validation_frequency=0, async_save=True)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    gate.set()
    trainer.train()
    assert events[:2] == ["begin", "end"]


def test_errors_are_raised_once_and_counted(make_trainer):
    state = make_trainer().session.take()

    def write(step: int, found: Checkpoint) -> Path:
        if step < 3:
            raise CheckpointError(f"not {step}")
        return Path()

    saver = BackgroundSaver(write, state)
    saver.save(1, state)
    with pytest.raises(CheckpointError, match="not 1"):
        saver.save(2, state)
    assert saver.failures == 1
    saver.save(2, state)
    with pytest.raises(CheckpointError, match="not 2"):
        saver.wait()
    saver.wait()
    assert saver.failures == 2
    saver.save(3, state)
    saver.wait()
    assert saver.failures == 0


def test_how_long_a_save_will_take(make_trainer):
    state = make_trainer().session.take()
    saver = DirectSaver(lambda step, found: time.sleep(0.05) or Path())
    nbytes = 300 * 10**9
    assert saver.expected_seconds(nbytes) == 3000.0
    saver.save(1, state)
    assert 0.05 <= saver.expected_seconds(nbytes) < 3000.0


def test_the_copy_is_planned(make_trainer):
    trainer = make_trainer(async_save=True)
    saver = BackgroundSaver(trainer.saver.write, trainer.session.take())
    plain, copying = (
        Planner(trainer.model, config, "adamw", load_registry()).plan()
        for config in (make_trainer().config, trainer.config)
    )
    planned = copying.total - plain.total
    assert planned == copying.by_family["checkpoint copy"]
    assert saver.nbytes <= planned + 64 * len(trainer.optimizer.state())
    assert planned <= saver.nbytes


def test_copies_are_equal_in_any_layout_and_type():
    generator = np.random.default_rng(0)
    arrays = {
        "large": generator.standard_normal(9_000_001).astype(np.float32),  # two pieces
        "matrix": generator.standard_normal((3, 5)),
        "transposed": generator.standard_normal((4, 6)).T,
        "number": np.array(3.5, np.float32),
        "nothing": np.zeros((0, 4), np.float32),
        "bytes": generator.integers(0, 255, 7).astype(np.uint8),
    }
    room = ArrayCopy(arrays)
    assert room.fits(arrays)
    copies = room.take(arrays)
    for name, array in arrays.items():
        assert copies[name].dtype == array.dtype
        assert np.array_equal(copies[name], array)
        assert not np.shares_memory(copies[name], array)
    assert not room.fits({**arrays, "more": arrays["number"]})
    assert not room.fits({**arrays, "matrix": arrays["transposed"]})


def test_neighbours_are_copied_in_one_go(make_trainer):
    state = make_trainer().session.take()[MODEL]
    room = ArrayCopy(state)
    assert len(list(room._runs(state))) == 1
    copies = room.take(state)
    assert all(np.array_equal(copies[name], state[name]) for name in state)
    elsewhere = {name: array + 1 for name, array in state.items()}  # which are no neighbours
    copies = room.take(elsewhere)
    assert all(np.array_equal(copies[name], elsewhere[name]) for name in state)
