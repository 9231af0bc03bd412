"""The sink ``console`` on a whole terminal: one that is real to the process that draws on it."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Session

from tisslm.contracts import RunInfo
from tisslm.errors import ConfigError
from tisslm.tracking.sinks.console import ConsoleSink
from tisslm.tracking.terminal.ink import is_terminal

ROOT = Path(__file__).parents[3]

#: A run of 100 steps that waits at step 50 for a line from its terminal.
SCRIPT = """
import sys, time
from pathlib import Path
from tisslm.contracts import RunInfo, Text
from tisslm.tracking.sinks.console import ConsoleSink
sink = ConsoleSink()
sink.open(RunInfo(Path("."), "corpus", max_steps=100, resumed_step={resumed}))
try:
    for step in range({resumed} + 1, 101):
        sink.write(step, {{"train/loss": 5 - step / 25, "train/step_time_ms": 100.0}})
        if step == 50:
            sink.write(step, {{"eval/loss": 3.0, "sample/0": Text("To be\\nor not")}})
            print("a line")
            print("a warning", file=sys.stderr)
            {wait}
except KeyboardInterrupt:
    print("interrupted")
finally:
    sink.close()
    Path("end").touch()
try:
    print("the end", flush=True)
except OSError:  # there is no terminal
    sys.stdout = None
"""

WAIT = "sys.stdin.readline()"


@pytest.fixture
def session(tmp_path: Path) -> Iterator:
    """Start the script on a terminal."""
    started: list[Session] = []

    def start(*, resumed=0, redirect="", wait=WAIT, ignored="", **more) -> Session:
        (tmp_path / "run.py").write_text(SCRIPT.format(resumed=resumed, wait=wait))
        environment = {"PYTHONPATH": str(ROOT), **more.pop("environment", {})}
        command = [
            "bash",
            "-c",
            f"trap '' {ignored or 'USR2'}; exec {sys.executable} run.py {redirect}",
        ]
        started.append(Session(command, tmp_path, environment=environment, **more))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_a_run_takes_the_terminal_and_gives_it_back(session) -> None:
    run = session(columns=100, rows=30)
    run.wait(lambda seen: "step 50/100" in seen.screen[1])
    run.wait(lambda seen: any("a warning" in line for line in seen.screen))
    screen = "\n".join(run.picture.screen)
    assert run.picture.alternate
    assert not run.picture.cursor
    for part in (
        "corpus",
        "50.0%  eta",
        "loss           3.0000",
        "validation     3.0000 best 3.0000 at 50",
        "● validation",
        "sample/0 at step 50",
        "  To be\n  or not",
        "step 50/100 (50.0%) | eval loss 3.0000\n  a line\n  a warning",
    ):
        assert part in screen, part
    run.type("\n")
    assert run.end() == 0
    assert (run.picture.alternate, run.picture.cursor, run.picture.wraps) == (False, True, True)
    assert "\nx" not in run.picture.normal, "what is typed is not shown meanwhile"
    lines = [line.rstrip() for line in run.picture.normal.replace("\r", "").splitlines()]
    begin = lines.index("step    50/100 (50.0%) | eval loss 3.0000")
    assert lines[begin + 1 : begin + 5] == [
        "step    50/100 (50.0%) | sample/0:",
        "    To be",
        "    or not",
        "a line",
    ]
    assert lines[begin + 5] == "a warning"
    assert lines[begin + 6].startswith("TissLM  corpus ")
    assert " completed " in lines[begin + 6]
    assert lines[begin + 7].startswith("step 100/100 ━")
    assert lines[-1] == "the end"


def test_it_is_drawn_anew_when_the_terminal_changes_its_size(session) -> None:
    run = session(columns=100, rows=30)
    run.wait(lambda seen: "step 50/100" in seen.screen[1])
    run.resize(70, 18)
    run.wait(lambda seen: "step 50/100" in seen.screen[1] and len(seen.screen[1]) <= 70)
    run.resize(30, 4)
    run.wait(lambda seen: seen.screen[1].startswith("step 50/100"))
    run.type("\n")
    assert run.end() == 0


def test_ctrl_c_gives_the_terminal_back_first(session) -> None:
    run = session()
    run.wait(lambda seen: "step 50/100" in seen.screen[1])
    run.type("\x03")
    assert run.end() == 0
    assert not run.picture.alternate
    normal = run.picture.normal.replace("\r", "")
    assert "interrupted\n" in normal
    assert " ended " in normal


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(session) -> None:
    run = session()
    run.wait(lambda seen: "step 50/100" in seen.screen[1])
    os.kill(run.process.pid, signal.SIGTSTP)
    run.wait(lambda seen: run.times_left == 1)  # its next picture may have come already
    os.kill(run.process.pid, signal.SIGCONT)
    run.wait(lambda seen: seen.alternate)
    run.type("\n")
    assert run.end() == 0


def test_what_goes_to_a_file_goes_there_as_ever(session, tmp_path: Path) -> None:
    run = session(redirect="2> errors.txt")
    run.wait(lambda seen: "step 50/100" in seen.screen[1])
    run.type("\n")
    assert run.end() == 0
    assert (tmp_path / "errors.txt").read_text() == "a warning\n"


def test_the_run_goes_on_when_the_terminal_goes_away(session, tmp_path: Path) -> None:
    run = session(wait="while not Path('go').exists(): time.sleep(0.05)", ignored="HUP")
    run.wait(lambda seen: "step 50/100" in seen.screen[1])
    os.close(run.handle)
    (tmp_path / "go").touch()
    assert run.process.wait(120) == 0
    assert (tmp_path / "end").exists()


def test_a_small_terminal_gets_the_bar_and_a_file_lines(session, tmp_path: Path) -> None:
    run = session(columns=50, rows=30, redirect="> lines.txt")
    run.type("\n")
    assert run.end() == 0
    lines = (tmp_path / "lines.txt").read_text().splitlines()
    assert lines[0] == "step     1/100 (1.0%) | loss 4.9600 | eta 9.9s"
    assert "step    50/100 (50.0%) | sample/0:" in lines
    assert "    or not" in lines
    assert run.picture.normal.replace("\r", "").strip() == "a warning"
    assert "?1049" not in run.everything


@pytest.mark.parametrize(
    ("environment", "glyph", "styles"),
    [
        ({"NO_COLOR": "1"}, "━", {"0", "1", "2"}),
        ({"TERM": "linux"}, "#", {"0", "1", "2", "32", "33", "36"}),
    ],
    ids=["NO_COLOR", "linux"],
)
def test_the_terminal_is_given_what_it_takes(session, environment, glyph, styles) -> None:
    run = session(environment=environment)
    run.wait(lambda seen: f"step 50/100 {glyph}" in seen.screen[1])
    run.type("\n")
    assert run.end() == 0
    assert run.picture.styles <= styles


def test_ci_and_dumb_terminals_get_lines(session) -> None:
    for environment in ({"CI": "true"}, {"TERM": "dumb"}):
        run = session(environment=environment)
        run.type("\n")
        assert run.end() == 0
        assert "\x1b" not in run.everything
        assert "step    50/100 (50.0%) | loss 3.0000" in run.everything


def test_a_run_that_goes_on_shows_what_was_before(session, tmp_path: Path) -> None:
    lines = "".join(f'{{"step": {step}, "train/loss": 9.5}}\n' for step in range(1, 60))
    (tmp_path / "metrics.jsonl").write_text(lines + "nonsense\n")
    run = session(resumed=40)
    axis = re.compile(r"└.* 50\s*$")  # the last thing that a picture shows
    run.wait(lambda seen: "step 50/100" in seen.screen[1] and any(map(axis.search, seen.screen)))
    picture = [line for line in run.picture.screen if "┤" in line]
    assert picture[0].lstrip().startswith("9.5 ┤")
    steps = next(line for line in run.picture.screen if "└" in line)
    assert steps.split("└")[1].split() == ["1", "26", "50"]
    run.type("\n")
    assert run.end() == 0


def test_the_whole_of_what_is_no_terminal_cannot_be_asked_for(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        sink = ConsoleSink(style="screen", stream=file)
        with pytest.raises(ConfigError) as caught:
            sink.open(RunInfo(tmp_path, "x"))
    assert str(caught.value) == (
        'sink console: style "screen" needs a terminal, got a file, a pipe or a stream in memory; '
        'leave style out, which gives lines there, or choose "lines"'
    )


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_ci_that_is_off_is_none(value: str) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    assert is_terminal(Terminal(), {"CI": value})
    assert not is_terminal(Terminal(), {"CI": "1"})
