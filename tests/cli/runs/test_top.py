"""``tisslm top``: what it says of runs in every state, on a terminal and into a file."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from terminal import Session, tisslm

from tisslm.checkpoint.owner import FILE, Owner

if TYPE_CHECKING:
    from conftest import Cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(folder: Path) -> Path:
    """Make the files of a run that is at step 20 of 100."""
    path = folder / "runs" / "mine"
    path.mkdir(parents=True)
    (path / "config.resolved.toml").write_text(
        '[training]\nname = "corpus"\nmax_steps = 100\n[log]\nsinks = ["jsonl"]\n'
    )
    lines = [
        {"step": step, "train/loss": 5 - step / 10, "train/step_time_ms": 500.0}
        for step in range(1, 21)
    ]
    lines.append({"step": 20, "eval/loss": 3.25, "sample/0": {"text": "To be"}})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def state(out: str) -> str:
    """Return the end of the first line: the state, for how long, and a note."""
    return out.splitlines()[0].removeprefix("TissLM  corpus").strip()


def test_a_file_gets_one_picture_without_styles(cli: Cli, run: Path) -> None:
    result = cli("top", "runs/mine")
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out
    assert state(result.out) == "not at work  runs/mine"
    assert result.out.splitlines()[1].startswith("step 20/100 ")
    assert "loss           3.0000" in result.out
    assert "validation     3.2500 best 3.2500 at 20" in result.out
    assert "loss ──" in result.out


def test_the_newest_run_is_taken_without_a_name(cli: Cli, run: Path) -> None:
    older = run.with_name("older")
    older.mkdir()
    (older / "config.resolved.toml").write_text('[training]\nname = "old"\n')
    os.utime(older / "config.resolved.toml", (1, 1))
    assert "corpus" in cli("top").out


def test_a_run_at_work_says_so_and_when_it_will_end(cli: Cli, run: Path) -> None:
    with Owner(run):
        result = cli("top", "runs/mine", "--once")
        assert re.fullmatch(r"running  [\d.]+s  runs/mine", state(result.out))
        assert result.out.splitlines()[1].endswith(" 20.0%  eta 40s")
        os.utime(run / FILE, (time.time() - 130, time.time() - 130))
        assert state(cli("top", "runs/mine").out).startswith("no sign of life for 2m1")


def test_a_killed_run_is_told_from_one_at_work(cli: Cli, run: Path) -> None:
    with Owner(run):
        left = json.loads((run / FILE).read_text())
    (run / FILE).write_text(json.dumps(left | {"ticks": left["ticks"] + 1}))
    assert state(cli("top", "runs/mine").out) == "killed: its process is gone  runs/mine"


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        ({"status": "completed", "seconds": 60.0}, "completed  1m00s  runs/mine"),
        ({"status": "stopped", "stopped_by": "SIGTERM"}, "stopped by SIGTERM  runs/mine"),
        ({"status": "failed\x1b[2J"}, "failed\\x1b[2J  runs/mine"),
        ({"status": 3}, "not at work  runs/mine"),
    ],
)
def test_a_run_that_has_ended_says_how(cli: Cli, run: Path, summary: dict, words: str) -> None:
    (run / "summary.json").write_text(json.dumps(summary))
    assert state(cli("top", "runs/mine").out) == words


@pytest.mark.parametrize(
    "lines",
    [
        [
            '{"step": 1, "train/step_time_ms": "NaN"}',
            '{"step": 2, "train/step_time_ms": "Infinity"}',
        ],
        ['{"step": 1, "train/loss": 1e308}', '{"step": 2, "train/loss": -1e308}'],
        [f'{{"step": {n}, "train/tokens_per_second": {v}e308}}' for n, v in ((1, 1), (2, -1))],
        ['{"step": 1, "train/epoch": 5e-324, "train/loss": 2.0}'],
    ],
)
def test_numbers_that_nobody_would_believe_are_shown_or_left_out(
    cli: Cli, run: Path, lines
) -> None:
    (run / "config.resolved.toml").write_text("[training]\nepochs = 3\n")
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (run / "summary.json").write_text(f'{{"status": "completed", "seconds": {"9" * 400}}}')
    result = cli("top", "runs/mine")
    assert (result.code, result.err) == (0, "")


def test_damaged_lines_are_counted(cli: Cli, run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('nonsense\n{"step": 21, "train/loss": 1.0}\n{"step": 22')
    result = cli("top", "runs/mine")
    assert state(result.out) == "not at work  runs/mine, 1 damaged lines"
    assert "step 21/100" in result.out


def test_a_run_by_epochs_ends_where_they_do(cli: Cli, run: Path) -> None:
    (run / "config.resolved.toml").write_text('[training]\nname = "corpus"\nepochs = 3\n')
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 21, "train/epoch": 0.5}\n')
    assert "step 21/126 " in cli("top", "runs/mine").out


def test_a_run_without_metrics_says_why(cli: Cli, run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    assert (
        state(cli("top", "runs/mine").out)
        == "not at work  no metrics yet in runs/mine/metrics.jsonl"
    )
    (run / "config.resolved.toml").write_text(
        '[training]\nname = "corpus"\n[log]\nsinks = ["csv"]\n'
    )
    result = cli("top", "runs/mine")
    assert state(result.out) == "not at work  no metrics: the run has no sink jsonl"


def test_the_metrics_may_have_another_name(cli: Cli, run: Path) -> None:
    (run / "metrics.jsonl").rename(run / "m.jsonl")
    with (run / "config.resolved.toml").open("a") as file:
        file.write('[log.jsonl]\npath = "m.jsonl"\n')
    assert "step 20/100" in cli("top", "runs/mine").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("nowhere",),
            "nowhere: expected a run directory, got nothing there; runs are below runs/",
        ),
        (
            ("text.txt",),
            "text.txt: expected a run directory, got a file; runs are below runs/",
        ),
        (
            (".",),
            ".: expected a run directory, with config.resolved.toml and metrics.jsonl, got a "
            "directory without them; runs are below runs/",
        ),
        (
            (),
            "runs: expected a folder of runs, found none in it; name a run directory: "
            "tisslm top RUN",
        ),
    ],
)
def test_what_is_no_run_is_refused(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    result = cli("top", *arguments)
    assert (result.code, result.out, result.err) == (1, "", f"error: {message}\n")


def test_nothing_is_written_into_the_run(cli: Cli, run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [run, *run.iterdir()]}
    cli("top", "runs/mine")
    assert {path: path.stat().st_mtime_ns for path in [run, *run.iterdir()]} == before


# --------------------------------------------------------------------------- on a terminal


def watch(sessions: list[Session], folder: Path, **options) -> Session:
    environment = {"PYTHONPATH": str(ROOT), **options.pop("environment", {})}
    command = [*options.pop("before", ()), *tisslm("top", "runs/mine", "--interval", "0.1")]
    sessions.append(Session(command, folder, environment=environment, **options))
    return sessions[-1]


def test_a_terminal_is_taken_followed_resized_and_given_back(
    sessions: list[Session], run: Path, folder: Path
) -> None:
    session = watch(sessions, folder, columns=90, rows=26)
    session.wait(lambda seen: "step 20/100" in seen.screen[1])
    assert session.picture.alternate
    assert not session.picture.cursor
    session.wait(lambda seen: any("sample/0 at step 20" in line for line in seen.screen))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 21, "train/loss": 1.0}\n')
    session.wait(lambda seen: "step 21/100" in seen.screen[1])
    session.resize(50, 12)
    session.wait(lambda seen: seen.screen[0].endswith("runs/mine"))
    session.wait(lambda seen: seen.screen[1].startswith("step 21/100"))
    session.type("q")
    assert session.end() == 0
    assert (session.picture.alternate, session.picture.cursor) == (False, True)
    assert session.picture.wraps
    assert "step 21/100" in session.picture.normal
    assert "error" not in session.picture.normal


def test_ctrl_c_ends_it_without_a_complaint(
    sessions: list[Session], run: Path, folder: Path
) -> None:
    session = watch(sessions, folder, environment={"NO_COLOR": "1"})
    session.wait(lambda seen: "step 20/100" in seen.screen[1])
    session.type("\x03")
    assert session.end() == 0
    assert not session.picture.alternate
    assert session.picture.styles <= {"0", "1", "2"}


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(
    sessions: list[Session], run: Path, folder: Path, unbuffered: str
) -> None:
    session = watch(sessions, folder, environment={"PYTHONUNBUFFERED": unbuffered})
    session.wait(lambda seen: "step 20/100" in seen.screen[1])
    os.kill(session.process.pid, signal.SIGTSTP)
    session.wait(lambda seen: session.times_left == 1)  # its next picture may have come already
    os.kill(session.process.pid, signal.SIGCONT)
    session.wait(lambda seen: seen.alternate)
    session.type("q")
    assert session.end() == 0


def test_a_terminal_that_is_not_utf_8_gets_ascii(
    sessions: list[Session], run: Path, folder: Path
) -> None:
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    session = watch(sessions, folder, environment=environment, encoding="ascii")
    session.wait(lambda seen: "step 20/100 ####" in seen.screen[1])
    session.type("q")
    assert session.end() == 0
    assert session.everything.isascii()


def test_a_terminal_that_goes_away_ends_it(
    sessions: list[Session], run: Path, folder: Path
) -> None:
    """Also where nobody is told of it by a signal."""
    session = watch(sessions, folder, before=("bash", "-c", "trap '' HUP; exec \"$@\"", "bash"))
    session.wait(lambda seen: "step 20/100" in seen.screen[1])
    os.close(session.handle)
    assert session.process.wait(120) == 0


def test_a_closed_pipe_is_no_error(run: Path, folder: Path) -> None:
    import subprocess

    command = f"{sys.executable} -m tisslm top runs/mine | head -1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, check=False
    )
    assert done.stdout.startswith(b"TissLM  corpus")
    assert done.stderr == b""
