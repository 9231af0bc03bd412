"""ConsoleSink: the words, when they are printed, and the bar."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tisslm.contracts import Metric, RunInfo, Text
from tisslm.errors import ConfigError
from tisslm.tracking.sinks._line import describe_evaluation, position
from tisslm.tracking.sinks.console import ConsoleSink

METRICS = {
    "train/loss": 2.40312,
    "train/perplexity": 11.06,
    "train/learning_rate": 9.8e-4,
    "train/grad_norm": 0.834,
    "train/tokens_per_second": 41_234.0,
    "train/step_time_ms": 20.0,
    "memory/rss_gib": 1.92,
}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Whether it is one."""
        return True


def run(max_steps: int = 5000, resumed_step: int = 0) -> RunInfo:
    """Describe a run of so many steps."""
    return RunInfo(Path(), "test", max_steps=max_steps, resumed_step=resumed_step)


def lines_of(max_steps: int, steps: range, **options: Any) -> list[str]:
    """Return the plain lines of a run that writes its loss at these steps."""
    stream = io.StringIO()
    sink = ConsoleSink(stream=stream, **options)
    sink.open(run(max_steps))
    for step in steps:
        sink.write(step, {"train/loss": 1.0})
    sink.close()
    return stream.getvalue().splitlines()


def test_a_line_has_what_matters() -> None:
    stream = io.StringIO()
    clock = iter([100.0, 120.0])
    sink = ConsoleSink(stream=stream, clock=lambda: next(clock))
    sink.open(run())
    sink.write(500, METRICS)
    sink.write(1500, METRICS | {"train/grad_norm": 1.5e7})
    sink.close()
    assert stream.getvalue() == (
        "step   500/5000 (10.0%) | loss 2.4031 | lr 9.8e-04 | grad_norm 0.83 | 41.2k tok/s | "
        "mem 1.9 GiB | eta 1m30s\n"
        "step  1500/5000 (30.0%) | loss 2.4031 | lr 9.8e-04 | grad_norm 1.5e+07 | 41.2k tok/s | "
        "mem 1.9 GiB | eta 1m10s\n"
    )


def test_an_evaluation_has_a_line_of_its_own() -> None:
    stream = io.StringIO()
    sink = ConsoleSink(stream=stream, clock=lambda: 0.0)
    sink.open(run())
    sink.write(
        5000, {"train/loss": 1.5, "eval/loss": 1.93214, "eval/perplexity": 6.9, "eval/acc": 0.5}
    )
    sink.write(5000, {"eval/loss": 2.0})
    sink.close()
    assert stream.getvalue() == (
        "step  5000/5000 (100.0%) | loss 1.5000\n"
        "step  5000/5000 (100.0%) | eval loss 1.9321 | eval perplexity 6.90 | eval acc 0.5000\n"
        "step  5000/5000 (100.0%) | eval loss 2.0000\n"
    )


def test_an_evaluation_shows_shares_in_percent_and_no_times() -> None:
    stream = io.StringIO()
    sink = ConsoleSink(stream=stream, clock=lambda: 0.0)
    sink.open(run())
    metrics = {"eval/loss": 1.9, "eval/accuracy": 0.40361, "eval/top5_accuracy": 0.7}
    sink.write(5000, {**metrics, "eval/bpb": 2.5, "eval/runtime": 1.0})
    sink.write(5000, {"eval/runtime": 1.0, "eval/samples_per_second": 60.0})
    assert stream.getvalue() == (
        "step  5000/5000 (100.0%) | eval loss 1.9000 | eval accuracy 40.4% | eval top-5 accuracy "
        "70.0% | eval bpb 2.5000\n"
    )


def test_values_that_are_not_finite_are_shown() -> None:
    stream = io.StringIO()
    sink = ConsoleSink(stream=stream)
    sink.open(run(1))
    sink.write(1, {"train/loss": float("nan"), "train/grad_norm": float("inf")})
    assert stream.getvalue() == "step     1/1 (100.0%) | loss nan | grad_norm inf\n"


def test_other_metrics_are_not_shown() -> None:
    stream = io.StringIO()
    sink = ConsoleSink(stream=stream)
    sink.open(run())
    sink.write(1, {"grad_norm/wte": 1.0, "note": "text"})
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("max_steps", "every", "expected"),
    [
        (1000, 0, [1, *range(10, 1001, 10)]),
        (1700, 0, [1, *range(20, 1700, 20), 1700]),
        (30, 0, list(range(1, 31))),
        (30, 7, [1, 7, 14, 21, 28, 30]),
    ],
)
def test_a_run_has_about_a_hundred_lines(max_steps: int, every: int, expected: list[int]) -> None:
    lines = lines_of(max_steps, range(1, max_steps + 1), every=every)
    assert [int(re.findall(r"\d+", line)[0]) for line in lines] == expected


def test_a_run_without_an_end_has_neither_percent_nor_eta() -> None:
    assert lines_of(0, range(1, 12)) == [
        "step     1 | loss 1.0000",
        "step    10 | loss 1.0000",
    ]


def test_a_resumed_run_is_timed_from_where_it_goes_on() -> None:
    stream = io.StringIO()
    clock = iter([10.0, 12.0])
    sink = ConsoleSink(stream=stream, every=1, clock=lambda: next(clock))
    sink.open(run(1000, resumed_step=900))
    sink.write(901, {"train/loss": 1.0})
    sink.write(902, {"train/loss": 1.0})
    assert stream.getvalue() == (
        "step   901/1000 (90.1%) | loss 1.0000\nstep   902/1000 (90.2%) | loss 1.0000 | eta 3m16s\n"
    )


def test_the_run_goes_on_when_nobody_reads() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    for stream in (Closed(), io.StringIO()):
        sink = ConsoleSink(stream=stream)
        sink.open(run())
        stream.close() if not isinstance(stream, Closed) else None
        sink.write(1, METRICS)
        sink.write(2, METRICS | {"eval/loss": 1.0})
        sink.close()


def test_the_standard_output_is_looked_up_when_the_sink_opens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sink = ConsoleSink()
    sink.open(run())
    sink.write(1, {"train/loss": 1.0})
    sink.close()
    assert capsys.readouterr().out == "step     1/5000 (0.0%) | loss 1.0000\n"


def test_positions_line_up() -> None:
    assert position(5, 1_000_000) == "step       5/1000000 (0.0%)"
    assert len(position(5, 100)) == len("step     5/100 (5.0%)")


# --------------------------------------------------------------------------- the bar


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Give a terminal of 160 columns."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")
    return Terminal()


def plain(text: str) -> str:
    """Remove the codes that move the cursor and set styles."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_terminal_gets_a_bar_and_lines_above_it(terminal: Terminal) -> None:
    sink = ConsoleSink(stream=terminal, clock=lambda: 0.0)
    sink.open(run(100))
    sink.write(1, METRICS)
    sink.write(50, METRICS | {"eval/loss": 1.5})
    sink.write(100, METRICS | {"train/loss": 1.25})
    sink.close()
    text = plain(terminal.getvalue())
    assert "step    50/100 (50.0%) | eval loss 1.5000\n" in text
    last = text.rstrip("\n").splitlines()[-1]
    assert last.startswith("step   100/100 (100.0%) ")
    assert last.rstrip().endswith(
        " loss 1.2500 | lr 9.8e-04 | grad_norm 0.83 | 41.2k tok/s | mem 1.9 GiB"
    )
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1


def test_a_narrow_terminal_gets_two_lines_and_loses_nothing(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    sink = ConsoleSink(stream=terminal, clock=lambda: 0.0)
    sink.open(run(5000))
    sink.write(500, METRICS)
    sink.close()
    above, below = plain(terminal.getvalue()).rstrip("\n").splitlines()[-2:]
    assert above.strip().startswith("step   500/5000 (10.0%) ")
    assert below.rstrip() == (
        "loss 2.4031 | lr 9.8e-04 | grad_norm 0.83 | 41.2k tok/s | mem 1.9 GiB | eta 1m30s"
    )


def test_a_run_without_an_end_has_a_bar_too(terminal: Terminal) -> None:
    sink = ConsoleSink(stream=terminal)
    sink.open(run(0))
    sink.write(3, {"train/loss": 1.0})
    sink.close()
    assert "step     3 " in plain(terminal.getvalue())


def test_the_cursor_comes_back_after_an_error(terminal: Terminal) -> None:
    sink = ConsoleSink(stream=terminal)
    sink.open(run(100))
    sink.close()
    sink.close()
    assert terminal.getvalue().endswith("\x1b[?25h")


@pytest.mark.parametrize("style", ["lines", "auto"])
def test_plain_lines_can_be_asked_for(
    terminal: Terminal, style: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if style == "auto":
        monkeypatch.setenv("TERM", "dumb")
    sink = ConsoleSink(stream=terminal, style=style)
    sink.open(run())
    sink.write(1, {"train/loss": 1.0})
    sink.close()
    assert terminal.getvalue() == "step     1/5000 (0.0%) | loss 1.0000\n"


def test_a_bar_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    sink = ConsoleSink(stream=stream, style="bar")
    sink.open(run())
    sink.close()
    assert "\x1b[" in stream.getvalue()


@pytest.mark.parametrize("style", ["bar", "lines"])
def test_a_metric_that_a_part_declares_is_on_the_line(style: str) -> None:
    stream = io.StringIO()
    sink = ConsoleSink(stream=stream, style=style)
    own = Metric("mine/heat", "heat", line="heat {:.1f}"), Metric("mine/cold", "cold")
    sink.open(RunInfo(Path(), "run", max_steps=9, declared=own))
    sink.write(1, {"train/loss": 1.0, "mine/heat": 2.5, "mine/cold": 7.25, "mine/other": 8.0})
    sink.close()
    assert "loss 1.0000 | heat 2.5" in stream.getvalue()
    assert not {"7.25", "8.0"} & set(stream.getvalue().split())


def test_plain_lines_need_no_rich() -> None:
    code = (
        "import sys; from pathlib import Path; from tisslm.contracts import RunInfo\n"
        "from tisslm.tracking.sinks.console import ConsoleSink\n"
        "sink = ConsoleSink(); sink.open(RunInfo(Path(), 'x', max_steps=1))\n"
        "sink.write(1, {'train/loss': 1.0}); sink.close()\n"
        "sys.exit('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"style": "fancy"},
            'sink console: style: expected "auto", "screen", "bar" or "lines", got \'fancy\'',
        ),
        ({"every": -1}, "sink console: every: expected an integer >= 0, got -1"),
        ({"every": True}, "sink console: every: expected an integer >= 0, got True"),
        ({"every": 1.5}, "sink console: every: expected an integer >= 0, got 1.5"),
        ({"stream": "x"}, "sink console: stream: expected an open text stream, got 'x'"),
        ({"clock": "x"}, "sink console: clock: expected a callable, got 'x'"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        ConsoleSink(**options)
    assert str(error.value) == message


def test_a_text_among_the_evaluations_is_no_number() -> None:
    assert describe_evaluation({"eval/loss": 1.0, "eval/answer": Text("x")}) == "eval loss 1.0000"
