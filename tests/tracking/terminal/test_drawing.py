"""The board: its words, its curve, its parts at every size, and characters that do no harm."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tisslm.contracts.metric_values import Text
from tisslm.tracking.terminal.board import Status, draw, record
from tisslm.tracking.terminal.curve import plot, sparkline
from tisslm.tracking.terminal.history import POINTS, Curve, History
from tisslm.tracking.terminal.ink import ASCII, UNICODE, Ink
from tisslm.tracking.terminal.spans import clip, pad, width, wrap
from tisslm.tracking.terminal.words import one_line, printable

FULL = {
    "train/loss": 2.0,
    "train/perplexity": 7.39,
    "train/learning_rate": 9.8e-4,
    "train/grad_norm": 0.834,
    "train/grad_norm_clipped_fraction": 0.12,
    "train/tokens_per_second": 41_234.0,
    "train/step_time_ms": 398.0,
    "train/data_time_ms": 0.31,
    "train/mfu": 0.781,
    "train/tflops": 0.175,
    "train/epoch": 0.43,
    "memory/rss_gib": 1.92,
    "memory/planned_gib": 2.04,
    "memory/imports_gib": 0.07,
    "system/cpu_percent": 198.0,
}


def text_of(lines: list) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def a_run(steps: int = 500) -> History:
    history = History()
    for step in range(1, steps + 1):
        history.record(step, FULL | {"train/loss": 1.5 + 3 * math.exp(-step / 100)})
    history.record(steps, {"eval/loss": 1.6, "sample/0": Text("To be\nor not\tto be")})
    history.say("step 500 | eval loss 1.6000")
    return history


# --------------------------------------------------------------------------- words


@given(st.text())
def test_what_is_printable_acts_on_no_terminal(text: str) -> None:
    assert all(line.isprintable() for line in printable(text).split("\n"))
    assert one_line(text).isprintable()


def test_escape_sequences_and_direction_marks_are_shown_as_escapes() -> None:
    assert printable("a\x1b[2Jb\u202ec\r\nd\te\rf") == r"a\x1b[2Jb\u202ec" "\nd    e" r"\rf"


# --------------------------------------------------------------------------- lines


@given(st.lists(st.tuples(st.text(max_size=8), st.just(""))), st.integers(0, 30))
def test_a_clipped_line_fits_and_a_padded_one_is_as_wide_as_asked(line: list, columns: int) -> None:
    line = [(printable(text).replace("\n", " "), style) for text, style in line]
    assert width(clip(line, columns)) <= columns
    assert width(pad(line, columns)) == columns


def test_wide_characters_take_two_columns() -> None:
    assert width([("日本", "")]) == 4
    assert clip([("日本", "")], 3) == [("日 ", "")]
    assert list(wrap("日本語\n\nab", 4)) == ["日本", "語", "", "ab"]


# --------------------------------------------------------------------------- curves


def test_a_falling_curve_falls_from_corner_to_corner() -> None:
    points = [(step, float(11 - step)) for step in range(1, 11)]
    lines = text_of(plot(points, [], 29, 5, ASCII))
    assert lines == [
        "   10 +**********",
        "      |         ******",
        "      |               *******",
        "    1 +                     *",
        "  log +1         6         10",
    ]


def test_braille_dots_are_where_the_points_are() -> None:
    assert text_of(plot([(0, 4.0), (10, 4.5)], [], 24, 4, UNICODE)) == [
        " 4.5 ┤            ⣀⣀⡤⠴⠒⠋",
        "     │      ⣀⣠⠤⠖⠚⠉⠁",
        "   4 ┤⣀⡤⠴⠒⠋⠉⠁",
        "     └0       5       10",
    ]


def test_marks_lie_over_the_curve() -> None:
    lines = text_of(plot([(0, 1.0), (10, 2.0)], [(10, 2.0)], 30, 5, ASCII))
    assert lines[0].endswith("o")


def test_one_value_and_equal_values_have_a_picture() -> None:
    assert len(plot([(1, 2.0)], [], 40, 6, UNICODE)) == 6
    assert len(plot([(1, 2.0), (2, 2.0)], [], 40, 6, UNICODE)) == 6


def test_nothing_and_no_room_have_none() -> None:
    assert plot([], [], 40, 6, UNICODE) == []
    assert plot([(1, 2.0)], [], 19, 6, UNICODE) == []
    assert plot([(1, 2.0)], [], 40, 2, UNICODE) == []


@example([1.0, 3.0], 20, 3, UNICODE)  # the word "log" is longer than the labels of the axis
@given(
    st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=60),
    st.integers(20, 120),
    st.integers(3, 30),
    st.sampled_from([UNICODE, ASCII]),
)
def test_a_picture_of_any_values_has_its_size(values, columns, rows, glyphs) -> None:
    points = list(enumerate(values))
    lines = plot(points, points[::7], columns, rows, glyphs)
    assert len(lines) == rows
    assert all(width(line) <= columns for line in lines)


def test_a_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([9, 1, 2, 8], 3, UNICODE) == "▁▂█"
    assert sparkline([1.0], 5, UNICODE) == ""
    assert sparkline([2, 2, math.nan], 5, UNICODE) == "▅▅"


def test_a_curve_keeps_a_bounded_number_of_points_and_the_mean() -> None:
    curve = Curve()
    for step in range(1, 40 * POINTS + 4):
        curve.add(step, float(step))
        curve.add(step, math.nan)
    assert POINTS <= len(curve.points) < 2 * POINTS
    assert curve.newest[-1][0] == 40 * POINTS + 3
    steps = [step for step, _ in curve.newest]
    assert steps == sorted(steps)
    assert curve.points[0][1] == pytest.approx((1 + curve.points[0][0]) / 2)


# --------------------------------------------------------------------------- the board


def test_a_board_has_all_that_matters() -> None:
    status = Status("corpus", max_steps=5000, elapsed=192.0, left=372.0)
    lines = text_of(draw(a_run(), status, 100, 36, UNICODE))
    assert len(lines) == 36
    assert lines[0].split() == ["TissLM", "corpus", "running", "3m12s"]
    assert lines[1].startswith("step 500/5000 ━━━━━")
    assert lines[1].endswith(" 10.0%  epoch 0.43  eta 6m12s")
    text = "\n".join(lines)
    for part in (
        "loss           1.5202",
        "validation     1.6000 best 1.6000 at 500",
        "learning rate  9.80e-04",
        "gradient norm  0.834 12% clipped",
        "speed          41.2k tok/s ▅▅▅▅▅▅▅▅▅▅▅▅",
        "step time      398 ms data 0.31 ms",
        "arithmetic     78.1% of peak 175 GFLOP/s",
        "memory         1.92 GiB of 2.11 planned",
        "cpu            198%",
        "imports        0.07 GiB of the memory",
        "─ loss ──",
        "train  ● validation",
        "─ sample/0 at step 500 ──",
        "  To be\n  or not    to be",
        "─ messages ──",
        "  step 500 | eval loss 1.6000",
    ):
        assert part in text, part


def test_what_is_left_behind_has_neither_sample_nor_messages() -> None:
    text = "\n".join(text_of(record(a_run(), Status("x", max_steps=500), 90, UNICODE)))
    assert "100.0%" in text
    assert "─ loss ──" in text
    assert "sample" not in text
    assert "messages" not in text


@given(st.integers(1, 300), st.integers(1, 90), st.sampled_from([UNICODE, ASCII]))
def test_a_board_fits_every_terminal(columns: int, rows: int, glyphs) -> None:
    history = a_run(40)
    history.record(41, {"sample/0": Text("日本語のテキスト" * 40 + "\x1b[2J")})
    history.say("\x1b]0;title\x07 " + "x" * 400)
    for known in (history, History()):
        lines = draw(known, Status("a name " * 30, left=9.0), columns, rows, glyphs)
        assert len(lines) == rows
        assert all(width(line) <= columns for line in lines)
        assert all(text.isprintable() for line in lines for text, _ in line)


def test_a_loss_that_is_not_finite_is_an_alarm() -> None:
    history = History()
    history.record(3, {"train/loss": math.nan, "train/grad_norm": math.inf})
    lines = draw(history, Status("x"), 80, 10, UNICODE)
    assert ("nan", "alarm") in lines[2]
    assert "\x1b[1;31mnan\x1b[0m" in Ink(UNICODE, True, "utf-8").paint(lines[2])


def test_the_time_left_is_that_of_the_last_steps() -> None:
    history = History()
    assert history.seconds_left(100) is None
    for step in range(1, 101):
        history.record(step, {"train/step_time_ms": 9e9 if step < 20 else 500.0})
    assert history.seconds_left(220) == 60.0
    assert history.seconds_left(100) is None


# --------------------------------------------------------------------------- ink


class Stream:
    def __init__(self, encoding: str | None) -> None:
        self.encoding = encoding


@pytest.mark.parametrize(
    ("encoding", "environment", "glyphs", "colour"),
    [
        ("utf-8", {}, UNICODE, True),
        ("utf-8", {"NO_COLOR": "1"}, UNICODE, False),
        ("utf-8", {"NO_COLOR": ""}, UNICODE, True),
        ("utf-8", {"TERM": "linux"}, ASCII, True),
        ("latin-1", {}, ASCII, True),
        ("ascii", {}, ASCII, True),
        ("no such", {}, ASCII, True),
        (None, {}, ASCII, True),
    ],
)
def test_ink_is_what_the_terminal_takes(encoding, environment, glyphs, colour) -> None:
    ink = Ink.of(Stream(encoding), environment)
    assert (ink.glyphs, ink.colour) == (glyphs, colour)


def test_without_colour_there_is_bold_and_dim() -> None:
    line = [("a", "title"), ("b", "bad"), ("c", "dim"), ("é", "")]
    assert Ink(UNICODE, False, "utf-8").paint(line) == "\x1b[1ma\x1b[0mb\x1b[2mc\x1b[0mé"
    assert Ink(UNICODE, True, "ascii").paint(line[1:]) == "\x1b[31mb\x1b[0m\x1b[2mc\x1b[0m?"
    assert Ink(UNICODE, True, "ascii").plain([*line, ("  ", "")]) == "abc?"
