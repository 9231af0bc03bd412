"""A run that is asked to end drops what it began, saves, and goes on to the same bits."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tisslm.errors import ConfigError
from tisslm.system.time_limits import SLURM_SAFETY, parse_duration, time_limits
from tisslm.training.interruption import SIGNALS, Leave, Leaving, leave_at_once
from tisslm.training.ranks.communicators.local import LocalCommunicator


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


def apart(first: int, second: int) -> Callable[[], None]:
    """Return what sends two signals that no launcher has doubled."""

    def send() -> None:
        kill(first)
        time.sleep(0.6)
        kill(second)

    return send


def summary(trainer: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((trainer.run.path / "summary.json").read_text())
    return found


# --------------------------------------------------------------------------- whole runs

#: A step has two passes and an evaluation six, at steps 2, 4, 6: so passes 1 to 30 are all places
#: where a signal may arrive; after the last one, nothing is left to be stopped.
PASSES = (1, 2, 4, 5, 7, 10, 11, 14, 20, 24, 29)
LAST = 30


@pytest.mark.parametrize("number", PASSES)
def test_a_signal_anywhere_and_a_resume_give_the_uninterrupted_run(
    make_trainer, at_pass, lines, same, number
):
    whole = make_trainer("whole")
    whole.train()
    at_pass(number, lambda: kill(signal.SIGUSR1))
    cut = make_trainer()
    cut.train()
    assert (cut.stopped, summary(cut)["status"]) == ("SIGUSR1", "stopped")
    again = make_trainer(resume="auto")
    assert again.current_step == cut.current_step
    again.train()
    assert same(whole, again)
    assert lines(again) == lines(whole)
    assert (again.stopped, summary(again)["status"]) == ("", "completed")
    assert not (again.run.path / ".owner.json").exists()


def test_every_pass_of_a_run_was_counted(make_trainer, at_pass):
    reached = []
    at_pass(LAST, lambda: reached.append("last") or kill(signal.SIGTERM))
    trainer = make_trainer()
    trainer.train()
    assert reached == ["last"]
    assert trainer.stopped == ""  # everything was done
    at_pass(LAST + 1, lambda: reached.append("beyond"))
    make_trainer("other").train()
    assert reached == ["last"]


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_is_heeded_and_what_handled_it_comes_back(make_trainer, at_pass, number):
    def mine(number: int, frame: object) -> None:
        raise AssertionError

    before = signal.signal(number, mine)
    try:
        at_pass(1, lambda: kill(number))
        trainer = make_trainer()
        trainer.train()
        assert (trainer.stopped, trainer.current_step) == (number.name, 0)
        assert signal.getsignal(number) is mine
    finally:
        signal.signal(number, before)


def test_an_ignored_signal_stays_ignored(make_trainer, at_pass):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        at_pass(2, lambda: kill(signal.SIGINT))
        trainer = make_trainer()
        trainer.train()
        assert (trainer.stopped, trainer.current_step) == ("", 6)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_signal_stops_at_once_and_saves_nothing(make_trainer, at_pass):
    at_pass(3, apart(signal.SIGTERM, signal.SIGTERM))
    trainer = make_trainer()
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert summary(trainer)["status"] == "interrupted"
    assert list(trainer.run.checkpoints.iterdir()) == []
    assert not (trainer.run.path / ".owner.json").exists()


def test_the_same_signal_by_two_ways_counts_once(make_trainer, at_pass):
    def twice() -> None:
        kill(signal.SIGINT)
        kill(signal.SIGINT)

    at_pass(3, twice)
    trainer = make_trainer()
    trainer.train()
    assert (trainer.stopped, trainer.current_step) == ("SIGINT", 1)


def test_a_hangup_is_never_a_second_signal(make_trainer, at_pass):
    """Shell and kernel each send one, and systemd one behind SIGTERM, at any time."""
    at_pass(3, apart(signal.SIGTERM, signal.SIGHUP))
    trainer = make_trainer()
    trainer.train()
    assert (trainer.stopped, trainer.current_step) == ("SIGTERM", 1)


def test_in_another_thread_nobody_listens(make_trainer):
    trainer = make_trainer(max_steps=1)
    before = [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=trainer.train)
    thread.start()
    thread.join()
    assert trainer.current_step == 1
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_forked_child_is_ended_by_a_signal_as_ever(make_trainer, at_pass):
    ended = []

    def fork() -> None:
        ready, say = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(say, b"!")
            time.sleep(30)
            os._exit(0)
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        ended.append(os.waitpid(child, 0)[1])

    at_pass(2, fork)
    trainer = make_trainer(max_steps=1)
    trainer.train()
    assert os.WTERMSIG(ended[0]) == signal.SIGTERM
    assert trainer.stopped == ""


def test_a_dataset_that_hangs_does_not_keep_a_run_from_leaving(make_trainer, monkeypatch):
    trainer = make_trainer()
    stream, hang = trainer.dataset.stream, threading.Event()

    def slow(*args: Any, **kwargs: Any) -> Any:
        for number, batch in enumerate(stream(*args, **kwargs)):
            if number == 2:
                threading.Timer(0.3, kill, [signal.SIGUSR2]).start()
                hang.wait(60)
            yield batch

    monkeypatch.setattr(trainer.dataset, "stream", slow)
    monkeypatch.setattr("tisslm.training.batches.PATIENCE", 0.1)
    trainer.train()
    hang.set()
    assert (trainer.stopped, trainer.current_step) == ("SIGUSR2", 2)
    assert [path.name for path in trainer.run.checkpoints.iterdir()] == ["checkpoint-2"]


# --------------------------------------------------------------------------- time


def test_max_time_ends_a_run_that_can_go_on(make_trainer, same, lines):
    whole = make_trainer("whole")
    whole.train()
    starts = 0
    again = make_trainer(max_time=1e-3, resume="auto")
    while again.current_step < 6:
        step = again.current_step
        again.train()
        # Each start makes a step, however short its time: a run started again comes to its end.
        assert again.current_step == min(step + 1, 6)
        assert again.stopped in ("training.max_time = 0.001", "")
        starts += 1
        again = make_trainer(max_time=1e-3, resume="auto")
    assert starts == 6
    again.train()
    assert same(whole, again)
    assert lines(again) == lines(whole)


def test_time_is_kept_for_a_step_a_save_and_the_safety_of_slurm(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "time", lambda: 5000.0)
    limits = time_limits("100s", {"SLURM_JOB_END_TIME": "5200"})
    assert [(limit.end, limit.safety) for limit in limits] == [(1100.0, 0.0), (1200, SLURM_SAFETY)]
    leaving = Leaving()
    leaving.save_seconds = lambda: 8.0
    for chosen, end in ((limits[:1], 1100.0), (limits[1:], 1200.0 - SLURM_SAFETY)):
        with leaving.armed(chosen):
            now = end
            leaving.check()  # nothing was done yet
            leaving.progressed = True
            now = end - 8.0 * 1.25 - 3.0 - 0.01
            leaving.check(ahead=3.0)
            now += 0.02
            leaving.check()
            with pytest.raises(Leave):
                leaving.check_together(ahead=3.0)
    assert limits[1].words.startswith("the Slurm job ends at 19")


@pytest.mark.parametrize("text", ["", "soon", "-5", "1000", "1e12", "٣", "9" * 17, "9" * 5000])
def test_an_end_of_a_job_that_is_none_is_no_limit(text):
    assert time_limits("", {"SLURM_JOB_END_TIME": text}) == []
    assert time_limits("", {}) == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3h30m", 12600.0),
        ("1d", 86400.0),
        ("1d2h3m4.5s", 93784.5),
        ("90s", 90.0),
        ("2 h 5 m", 7500.0),
        ("90", 90.0),
        ("0.5", 0.5),
        (90, 90.0),
        (1.5, 1.5),
    ],
)
def test_durations(value, seconds):
    assert parse_duration(value) == seconds


@pytest.mark.parametrize("value", ["", "h", "30m3h", "3 hours", "-1s", "1e3s", "0s", 0, True, None])
def test_what_is_no_duration(value):
    message = (
        "max: expected a duration such as '3h30m' or '90s', or a number of seconds > 0, got "
        f"{value!r}; the units are d, h, m and s"
    )
    with pytest.raises(ConfigError) as caught:
        parse_duration(value, "max")
    assert str(caught.value) == message


# --------------------------------------------------------------------------- several processes


class Pair(LocalCommunicator):
    """The first of two processes, the other of which says what it is told to."""

    size = 2  # type: ignore[assignment]
    other = b""

    def all_gather(self, data: bytes) -> list[bytes]:
        """Add what the other says."""
        return [data, self.other]


def test_processes_leave_together_and_between_steps_only():
    pair = Pair()
    leaving = Leaving(pair)
    with leaving.armed():
        leaving.check_together()
        pair.other = b"the time limit"
        with pytest.raises(Leave, match="the time limit"):
            leaving.check_together()
        pair.other = b""
        kill(signal.SIGTERM)
        leaving.check()
        with pytest.raises(Leave, match="SIGTERM"):
            leaving.check_together()


# --------------------------------------------------------------------------- before the first step


def test_before_the_first_step_a_signal_ends_the_preparation():
    with pytest.raises(Leave, match="SIGUSR1"), leave_at_once():
        signal.raise_signal(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    with pytest.raises(Leave, match="SIGHUP"), leave_at_once():
        signal.raise_signal(signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt), leave_at_once():
        signal.raise_signal(signal.SIGINT)
