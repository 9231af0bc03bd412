"""The board: one picture of a run, for a terminal of any size.

From the most to the least important: where the run is, its numbers, the curve of its loss, the last
sample, messages. A small terminal shows the first of these.

What does not live here: the numbers' names and forms (``numbers``), curves (``curve``).
"""

from __future__ import annotations

from dataclasses import dataclass

from tisslm.system.quantities import duration_text, short_text
from tisslm.tracking.terminal.curve import plot
from tisslm.tracking.terminal.history import History
from tisslm.tracking.terminal.ink import Glyphs
from tisslm.tracking.terminal.numbers import grid, numbers
from tisslm.tracking.terminal.spans import Line, beside, clip, join, rule, wrap
from tisslm.tracking.terminal.words import one_line, printable

__all__ = ["Status", "draw", "record"]

#: Rows of the picture that is left behind when a run ends.
_RECORD_ROWS = 12

#: Rows below which a curve is not worth its place, and those that the parts below it may take.
_LEAST_CURVE = 5
_MOST_MESSAGES = 4
_MOST_SAMPLE = 8


@dataclass(frozen=True)
class Status:
    """What is not in the metrics.

    Attributes
    ----------
    name : str
        The name of the run.
    state : str
        A word or a few, such as "running", "completed", "no sign of life for 2m10s".
    style : {"good", "warn", "bad"}
        The style in which the state is drawn.
    max_steps : int
        0 if unknown.
    elapsed, left : float, optional
        Seconds.
    note : str
        A remark for the upper right corner, such as where the run is.
    """

    name: str
    state: str = "running"
    style: str = "good"
    max_steps: int = 0
    elapsed: float | None = None
    left: float | None = None
    note: str = ""


def draw(history: History, status: Status, columns: int, rows: int, glyphs: Glyphs) -> list[Line]:
    """Draw a run on so many columns and rows.

    Returns
    -------
    list of Line
        ``rows`` lines, none wider than ``columns``.
    """
    head = _head(history, status, columns, glyphs)
    room = rows - len(head)
    table = grid(numbers(history, status.max_steps, glyphs), columns)[: max(1, room // 2)]
    room -= len(table)
    messages = _messages(history, columns, room - _LEAST_CURVE, glyphs)
    room -= len(messages)
    sample = _sample(history, columns, room - _LEAST_CURVE - 3, glyphs)
    room -= len(sample)
    picture = _curve(history, columns, room, glyphs)
    picture += [[] for _ in range(room - len(picture))]
    lines = [*head, *table, *picture, *sample, *messages]
    return [clip(line, columns) for line in lines[:rows]]


def record(history: History, status: Status, columns: int, glyphs: Glyphs) -> list[Line]:
    """Draw what is left on the terminal when a run has ended: no sample, no messages."""
    table = grid(numbers(history, status.max_steps, glyphs), columns)
    picture = _curve(history, columns, _RECORD_ROWS, glyphs)
    lines = [*_head(history, status, columns, glyphs), *table, *picture]
    return [clip(line, columns) for line in lines]


def _head(history: History, status: Status, columns: int, glyphs: Glyphs) -> list[Line]:
    """Return two lines: the run and its state; how far it is."""
    state: list[Line] = [[(one_line(status.state), status.style)]]
    if status.elapsed is not None:
        state.append([(duration_text(status.elapsed), "")])
    if status.note:
        state.append([(one_line(status.note), "dim")])
    title = [("TissLM", "dim"), (f"  {one_line(status.name)}", "title")]
    return [beside(title, join(state), columns), _progress(history, status, columns, glyphs)]


def _progress(history: History, status: Status, columns: int, glyphs: Glyphs) -> Line:
    """Return the bar, with steps in front of it and the time left behind."""
    total = status.max_steps
    of = f"/{total}" if total > 0 else ""
    front = f"step {history.step}{of} "
    epoch = history.latest.get("train/epoch")
    words = [f"epoch {short_text(epoch)}"] if epoch is not None else []
    if status.left is not None:
        words.append(f"eta {duration_text(status.left)}")
    if total <= 0:
        return join([[(front.strip(), "bold")], *([(word, "")] for word in words)])
    share = min(1.0, max(0.0, history.step / total))
    words.insert(0, f"{100 * share:.1f}%")
    behind = f" {'  '.join(words)}"
    room = columns - len(front) - len(behind)
    if room < 4:
        return [(f"{front}{behind}".strip(), "bold")]
    done = int(share * room)
    bar = [(glyphs.done * done, "good"), (glyphs.left * (room - done), "dim")]
    return [(front, "bold"), *bar, (behind, "")]


def _curve(history: History, columns: int, rows: int, glyphs: Glyphs) -> list[Line]:
    """Return the loss over the steps, with its heading; nothing where there is no room."""
    if rows < _LEAST_CURVE:
        return []
    marks = history.evaluations.newest
    picture = plot(history.loss.newest, marks, columns, rows - 1, glyphs)
    if not picture:
        return []
    legend: Line = [(" train", "curve")]
    if marks:
        legend += [(f"  {glyphs.mark} validation", "mark")]
    heading = beside(rule("loss", columns - 24, glyphs.dash), [*legend, (" ", "")], columns)
    return [heading, *picture]


def _sample(history: History, columns: int, rows: int, glyphs: Glyphs) -> list[Line]:
    """Return the beginning of the newest sample, with its heading."""
    if not history.samples or rows < 2:
        return []
    name, (step, text) = list(history.samples.items())[-1]
    heading = rule(f"{one_line(name)} at step {step}", columns, glyphs.dash)
    pieces = list(wrap(printable(text.strip("\n")), columns - 2))
    shown = pieces[: min(rows - 1, _MOST_SAMPLE)]
    if len(shown) < len(pieces):
        shown[-1] = shown[-1][: columns - 3 - len(glyphs.more)] + glyphs.more
    return [heading, *([("  ", ""), (piece, "")] for piece in shown)]


def _messages(history: History, columns: int, rows: int, glyphs: Glyphs) -> list[Line]:
    """Return the newest messages, one line each, with a heading."""
    fitting = min(rows - 1, _MOST_MESSAGES)
    if not history.messages or fitting < 1:
        return []
    newest = list(history.messages)[-fitting:]
    lines: list[Line] = [[("  ", ""), (one_line(text), "")] for text in newest]
    return [rule("messages", columns, glyphs.dash), *lines]
