"""One trainer per directory: who is at work is named, who is gone is recognized."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tisslm.checkpoint.owner import FILE, SILENCE, Owner, check_free, owner_of
from tisslm.errors import ConfigError


def entry(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / FILE).read_text())
    return found


def write(folder: Path, **changes: Any) -> None:
    """Leave a file as this process would, but for some changes."""
    with Owner(folder):
        found = entry(folder)
    (folder / FILE).write_text(json.dumps({**found, **changes}))


def start(folder: Path, *, wait: str = "time.sleep(60)") -> subprocess.Popen[str]:
    """Start a process that owns a folder and says so."""
    code = f"""
        import sys, time
        from pathlib import Path
        from tisslm.checkpoint.owner import Owner
        with Owner(Path({str(folder)!r})):
            print("owns", flush=True)
            {wait}
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_file_names_the_process_and_goes_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    with Owner(tmp_path) as owner:
        found = entry(tmp_path)
        assert (found["pid"], found["job"], found["restart"]) == (os.getpid(), "4711", 2)
        assert all(found[name] for name in ("host", "boot", "ticks", "since", "command"))
        assert owner.is_ours()
        owner.confirm()
    assert list(tmp_path.iterdir()) == []


def test_a_second_trainer_is_refused_and_told_who_is_there(tmp_path):
    first = start(tmp_path)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "owns\n"
        found = entry(tmp_path)
        message = (
            f"{tmp_path}: another trainer is at work in it: process {first.pid} on "
            f"{found['host']}, since {found['since']}: -c; wait for it, stop it, or choose another "
            "training.output_dir"
        )
        for attempt in (lambda: check_free(tmp_path), Owner(tmp_path).__enter__):
            with pytest.raises(ConfigError) as caught:
                attempt()
            assert str(caught.value) == message
    finally:
        first.kill()
        first.communicate()
    check_free(tmp_path)
    with pytest.warns(RuntimeWarning, match=f"taken over from process {first.pid} .*: it has end"):
        Owner(tmp_path).__enter__().__exit__()


def test_a_killed_process_that_nobody_has_waited_for_is_gone(tmp_path):
    first = start(tmp_path)
    assert first.stdout is not None
    first.stdout.readline()
    first.send_signal(signal.SIGKILL)
    end = time.monotonic() + 60
    while time.monotonic() < end:  # a zombie until communicate
        state = Path(f"/proc/{first.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break
    with pytest.warns(RuntimeWarning, match="it has ended"), Owner(tmp_path):
        pass
    first.communicate()


def test_of_many_that_start_at_once_one_works(tmp_path):
    write(tmp_path, ticks=1)  # a stale file, so that all want to take over
    racers = [start(tmp_path, wait="sys.stdin.read()") for _ in range(4)]
    end = time.monotonic() + 60
    while sum(racer.poll() is None for racer in racers) > 1 and time.monotonic() < end:
        time.sleep(0.05)
    outputs = [racer.communicate(timeout=60) for racer in racers]
    assert sum(out == "owns\n" for out, _ in outputs) == 1
    assert sum("taken over from" in err for _, err in outputs) == 1
    assert sum("is at work in it" in err for _, err in outputs) == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ticks": 1}, "it has ended"),
        ({"pid": 2**22 + 1}, "it has ended"),
        ({"boot": "another"}, "its machine was started again since"),
        ({"host": "far", "boot": "x", "job": "7"}, "its job was started again"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_who_is_gone_is_recognized(tmp_path, monkeypatch, changes, reason):
    write(tmp_path, **changes)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.warns(RuntimeWarning) as caught, Owner(tmp_path):
        assert entry(tmp_path)["pid"] == os.getpid()
    assert len(caught) == 1
    assert str(caught[0].message).endswith(f": {reason}")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3}', "\0" * 50, "[" * 50_000])
def test_a_file_without_a_name_in_it_is_of_a_process_that_ended(tmp_path, monkeypatch, content):
    monkeypatch.setattr("tisslm.checkpoint.owner.PATIENCE", 0.1)
    (tmp_path / FILE).write_text(content)
    with pytest.warns(RuntimeWarning, match="ended before it had said its name"), Owner(tmp_path):
        pass


@pytest.mark.parametrize("kind", ["fifo", "link", "large"])
def test_a_strange_file_is_not_waited_for_or_read_whole(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("tisslm.checkpoint.owner.PATIENCE", 0.1)
    path = tmp_path / FILE
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(2**40)
    with pytest.warns(RuntimeWarning, match="ended before it had said its name"), Owner(tmp_path):
        assert path.is_file()


@pytest.mark.parametrize("argument", ["x" * 200_000, "\udcff", "\ud800\n"])
def test_a_strange_command_line_does_not_hide_the_owner(tmp_path, monkeypatch, argument):
    monkeypatch.setattr("sys.argv", ["tisslm", argument])
    with Owner(tmp_path) as owner:
        assert owner.is_ours()


def test_another_host_is_believed_as_long_as_it_gives_signs_of_life(tmp_path):
    write(tmp_path, host="far", boot="x", namespace="y", pid=17)
    with pytest.raises(ConfigError) as caught:
        check_free(tmp_path)
    since = entry(tmp_path)["since"]
    assert re.fullmatch(
        re.escape(f"{tmp_path}: another trainer is at work in it: process 17 on far, since {since}")
        + r": .*; wait for it, stop it, or choose another training\.output_dir\. If it is gone, "
        + re.escape(f"delete {tmp_path / FILE}, or wait 5 minutes"),
        str(caught.value),
    )
    silent = time.time() - SILENCE - 60
    os.utime(tmp_path / FILE, (silent, silent))
    with pytest.warns(RuntimeWarning, match=r"no sign of life for 6m0\ds"), Owner(tmp_path):
        pass


def test_signs_of_life_are_given(tmp_path, monkeypatch):
    monkeypatch.setattr("tisslm.checkpoint.owner.HEARTBEAT", 0.05)
    with Owner(tmp_path):
        os.utime(tmp_path / FILE, (0, 0))
        end = time.monotonic() + 60
        while (tmp_path / FILE).stat().st_mtime < 1000 and time.monotonic() < end:
            time.sleep(0.02)
        assert (tmp_path / FILE).stat().st_mtime > 1000


def test_who_was_replaced_notices_and_leaves_the_file_alone(tmp_path):
    with Owner(tmp_path) as owner:
        (tmp_path / FILE).unlink()
        owner.confirm()  # nobody else is there
        (tmp_path / FILE).write_text("another's")
        with pytest.raises(ConfigError, match="another trainer has taken it over"):
            owner.confirm()
    assert (tmp_path / FILE).read_text() == "another's"


def test_what_is_no_file_is_not_removed_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tisslm.checkpoint.owner.PATIENCE", 0.1)
    (tmp_path / FILE).mkdir()
    with (
        pytest.warns(RuntimeWarning, match="ended before it had said its name"),
        pytest.raises(ConfigError) as caught,
        Owner(tmp_path),
    ):
        pass
    assert str(caught.value) == (
        f"{tmp_path / FILE}, which says who trains in a directory, cannot be removed (Is a "
        "directory); remove it, or choose another training.output_dir"
    )


def test_a_full_disk_is_named_and_leaves_no_file(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("json.dumps", refuse)
    with pytest.raises(ConfigError) as caught, Owner(tmp_path):
        pass
    assert str(caught.value) == (
        f"{tmp_path / FILE}, which says who trains in a directory, cannot be written (No space "
        "left on device); make room, or choose another training.output_dir"
    )
    assert not list(tmp_path.iterdir())


def test_a_very_long_command_is_an_owner_as_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", *("--set x.y=z " * 20_000).split()])
    with Owner(tmp_path) as owner:
        assert owner.is_ours()
        with pytest.raises(ConfigError, match="this process trains in it already"):
            check_free(tmp_path)
    assert not (tmp_path / FILE).exists()


def test_a_forked_child_does_not_give_up_what_its_parent_owns(tmp_path):
    with Owner(tmp_path) as owner:
        child = os.fork()
        if child == 0:
            owner.__exit__()
            os._exit(int(owner.is_ours()))
        assert os.waitpid(child, 0)[1] == 0
        assert owner.is_ours()


# --------------------------------------------------------------------------- trainers


def test_two_trainers_of_one_process(make_trainer, at_pass):
    first, second = make_trainer(), make_trainer()
    at_pass(1, lambda: pytest.raises(ConfigError, match="this process trains in it already"))
    failures = []

    def train_too() -> None:
        with pytest.raises(ConfigError) as caught:
            second.train()
        failures.append(str(caught.value))

    at_pass(2, lambda: threading.Thread(target=train_too).run())
    first.train()
    assert failures == [
        f"{first.run.path}: this process trains in it already; wait until that train() has ended, "
        "or choose another training.output_dir"
    ]
    assert not (first.run.path / FILE).exists()


def test_auto_does_not_go_on_from_a_state_that_is_out_of_date(make_trainer):
    early, late = make_trainer(resume="auto"), make_trainer(resume="auto")
    early.train()
    with pytest.raises(ConfigError) as caught:
        late.train()
    assert str(caught.value) == (
        f"{late.run.path}: another trainer has written checkpoint-6 since this one looked for the "
        "state to go on from; start again"
    )
    assert [path.name for path in early.run.checkpoints.iterdir()] == ["checkpoint-6"]


def test_what_killed_processes_left_in_the_directory_goes(make_trainer):
    trainer = make_trainer(max_steps=1)
    trainer.run.make()
    for name in (".tmp-summary.json-99", "checkpoints/.tmp-probe-99"):
        (trainer.run.path / name).touch()
    trainer.train()
    assert not list(trainer.run.path.rglob(".tmp*"))


def test_checkpoints_may_go_to_a_directory_elsewhere(make_trainer, tmp_path):
    folder = tmp_path / "elsewhere" / "checkpoints"
    trainer = make_trainer(max_steps=1, checkpoint_dir=str(folder))
    trainer.run.make()
    (folder / ".tmp-probe-99").touch()
    trainer.train()
    assert [path.name for path in folder.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize(
    "changes",
    [
        *({"pid": pid} for pid in (2**31, 2**63, 2**64, 0, -1, True, 1.0, 10**300)),
        {"ticks": 2**63},
        {"ticks": -2},
        {"restart": -1},
        {"restart": True},
    ],
    ids=str,
)
def test_numbers_that_no_process_has_are_those_of_no_owner(tmp_path, monkeypatch, changes):
    monkeypatch.setattr("tisslm.checkpoint.owner.PATIENCE", 0.0)
    write(tmp_path, **changes)
    check_free(tmp_path)
    assert owner_of(tmp_path) is None
    with pytest.warns(RuntimeWarning, match="a process that ended before it had said its name"):
        Owner(tmp_path).__enter__().__exit__()


def test_the_largest_process_id_is_asked_about(tmp_path):
    write(tmp_path, pid=2**31 - 1)
    found = owner_of(tmp_path)
    assert found is not None
    assert found.gone
