"""Curves in the cells of a terminal.

A cell holds 2 x 4 dots of braille. In each column of dots, the points that fall into it are drawn
as their mean, so a curve of many points is smoothed as far as the terminal is narrow.

What does not live here: what is shown (``board``), and how many points are kept (``history``).

References
----------
The Unicode Standard, chapter 21.1, "Braille Patterns" (U+2800 and the bits of its dots).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import final

from tisslm.system.quantities import short_text
from tisslm.tracking.terminal.ink import Glyphs
from tisslm.tracking.terminal.spans import Line

__all__ = ["Points", "plot", "sparkline"]

Points = Sequence[tuple[float, float]]

#: Bits of the dots of a cell, by column and row from the top.
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BRAILLE = 0x2800

#: From this ratio of the largest to the smallest value on, the axis is logarithmic.
_LOGARITHMIC = 3.0

#: Rows from one label of the axis to the next.
_LABEL_EVERY = 4


@final
class _Canvas:
    """Dots in cells, and marks that take a whole cell."""

    def __init__(self, columns: int, rows: int, glyphs: Glyphs) -> None:
        self.columns, self.rows, self.glyphs = columns, rows, glyphs
        self.across, self.down = (2, 4) if glyphs.braille else (1, 1)
        self.width, self.height = columns * self.across, rows * self.down
        self._bits = [[0] * columns for _ in range(rows)]
        self._marks: set[tuple[int, int]] = set()

    def dot(self, x: int, y: int) -> None:
        """Set a dot; y counts from the top."""
        bit = _BITS[x % self.across][y % self.down] if self.glyphs.braille else 1
        self._bits[y // self.down][x // self.across] |= bit

    def mark(self, x: int, y: int) -> None:
        """Put a mark into the cell of a dot."""
        self._marks.add((x // self.across, y // self.down))

    def row(self, number: int) -> Line:
        """Return a row of cells, neighbours of one style in one span."""
        line: Line = []
        for column, bits in enumerate(self._bits[number]):
            if (column, number) in self._marks:
                text, style = self.glyphs.mark, "mark"
            elif not bits:
                text, style = " ", "curve"
            else:
                text = chr(_BRAILLE + bits) if self.glyphs.braille else self.glyphs.dot
                style = "curve"
            if line and line[-1][1] == style:
                text = line.pop()[0] + text
            line.append((text, style))
        return line


def plot(points: Points, marks: Points, columns: int, rows: int, glyphs: Glyphs) -> list[Line]:
    """Draw a curve, and marks on top of it.

    Parameters
    ----------
    points, marks : sequence of (x, y)
        Finite, x ascending.
    columns, rows : int
        The size of the whole picture with its labels.
    glyphs : Glyphs

    Returns
    -------
    list of Line
        ``rows`` lines; empty if there is nothing to draw, or no room for a picture.
    """
    values = [y for _, y in (*points, *marks)]
    if not values or rows < 3 or columns < 20:
        return []
    low, high = min(values), max(values)
    scale = math.log if low > 0 and high >= _LOGARITHMIC * low else float
    back: Callable[[float], float] = math.exp if scale is math.log else float
    bottom, top = scale(low), scale(high)
    labels = [back(y) for y in _centres(bottom, top, rows - 1)]
    kind = "log" if scale is math.log else ""
    margin = max(len(kind), *(len(short_text(label)) for label in labels))
    canvas = _Canvas(columns - margin - 2, rows - 1, glyphs)
    steps = [x for x, _ in (*points, *marks)]
    first, last = min(steps), max(steps)

    def place(x: float, y: float) -> tuple[int, int]:
        across = (x - first) / (last - first) if last > first else 0.0
        up = (scale(y) - bottom) / (top - bottom) if top > bottom else 0.5
        return round(across * (canvas.width - 1)), round((1 - up) * (canvas.height - 1))

    for x, y in _connected([place(*point) for point in points]):
        canvas.dot(x, y)
    for point in marks:
        canvas.mark(*place(*point))
    lines = [_row(canvas, number, labels[number], margin, rows - 1) for number in range(rows - 1)]
    return [*lines, _steps(kind, margin, first, last, columns, glyphs)]


def _centres(bottom: float, top: float, rows: int) -> list[float]:
    """Return the values at the middle of each row, top first."""
    if rows == 1 or top == bottom:
        return [(top + bottom) / 2] * rows
    return [top + (bottom - top) * row / (rows - 1) for row in range(rows)]


def _connected(dots: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the dots of a curve: the mean of each column, joined to the column before."""
    means: dict[int, list[int]] = {}
    for x, y in dots:
        means.setdefault(x, []).append(y)
    before: tuple[int, int] | None = None
    for x, ys in means.items():
        y = round(sum(ys) / len(ys))
        if before is None:
            yield x, y
        else:
            yield from _segment(before, (x, y))
        before = (x, y)


def _segment(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the dots from one to another, without the first."""
    (x0, y0), (x1, y1) = start, end
    below = y0
    for x in range(x0 + 1, x1 + 1):
        y = round(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
        step = 1 if y >= below else -1
        for between in range(below, y, step):
            if between != y0 or x > x0 + 1:
                yield x, between
        yield x, y
        below = y


def _row(canvas: _Canvas, number: int, label: float, margin: int, rows: int) -> Line:
    """Return a row of the picture with its label, which every few rows have."""
    glyphs = canvas.glyphs
    labelled = number in (0, rows - 1) or (number % _LABEL_EVERY == 0 and number < rows - 2)
    text = short_text(label) if labelled else ""
    edge = glyphs.tick if labelled else glyphs.axis
    return [(f"{text:>{margin}} ", "dim"), (edge, "dim"), *canvas.row(number)]


def _steps(kind: str, margin: int, first: float, last: float, columns: int, glyphs: Glyphs) -> Line:
    """Return the row below a picture: the first step, the one in the middle, and the last."""
    room = columns - margin - 2
    begin, end, middle = f"{first:.0f}", f"{last:.0f}", f"{(first + last) / 2:.0f}"
    text = f"{begin}{end:>{max(0, room - len(begin))}}" if last > first else begin
    if last - first > 1 and room > 4 * len(end) + 8:
        at = (room - len(middle)) // 2
        text = f"{text[:at]}{middle}{text[at + len(middle) :]}"
    return [(f"{kind:>{margin}} ", "dim"), (glyphs.corner, "dim"), (text, "dim")]


def sparkline(values: Sequence[float], columns: int, glyphs: Glyphs) -> str:
    """Return the last values as a curve of one row, from their lowest to their highest."""
    shown = [value for value in values if math.isfinite(value)][-max(0, columns) :]
    if len(shown) < 2:
        return ""
    low, high = min(shown), max(shown)
    if high <= low:
        return glyphs.levels[len(glyphs.levels) // 2] * len(shown)
    last = len(glyphs.levels) - 1
    return "".join(glyphs.levels[round(last * (value - low) / (high - low))] for value in shown)
