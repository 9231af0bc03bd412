"""Lines of styled text, measured in the columns of a terminal.

A span is a text and the name of a style; a line is a list of spans. East Asian characters take two
columns and combining ones none.

What does not live here: what a style looks like (``ink``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["Line", "Span", "beside", "clip", "join", "pad", "rule", "width", "wrap"]

Span = tuple[str, str]
Line = list[Span]


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def width(line: Line) -> int:
    """Return the columns that a line takes."""
    return sum(_columns(text) for text, _ in line)


def clip(line: Line, columns: int) -> Line:
    """Return what fits into so many columns; a wide character that is cut leaves a blank."""
    found: Line = []
    for text, style in line:
        taken = _columns(text)
        if taken > columns:
            found.append((_cut(text, columns), style))
            return found
        found.append((text, style))
        columns -= taken
    return found


def _cut(text: str, columns: int) -> str:
    if text.isascii():
        return text[:columns]
    from rich.cells import set_cell_size

    return set_cell_size(text, columns)


def pad(line: Line, columns: int) -> Line:
    """Return a line of exactly so many columns: clipped, or with blanks behind it."""
    line = clip(line, columns)
    missing = columns - width(line)
    return [*line, (" " * missing, "")] if missing else line


def join(parts: Iterable[Line], between: str = "  ") -> Line:
    """Return lines as one, with a text between each two."""
    found: Line = []
    for part in parts:
        if found:
            found.append((between, "dim"))
        found.extend(part)
    return found


def beside(left: Line, right: Line, columns: int) -> Line:
    """Return a line with one text at its left and one at its right end, which goes first."""
    room = columns - width(right)
    if room < 1:
        return clip(right, columns)
    return [*pad(left, room), *right]


def rule(title: str, columns: int, dash: str) -> Line:
    """Return a line that heads a part of the board."""
    head: Line = [(dash, "dim"), (f" {title} ", "title")] if title else []
    return clip([*head, (dash * max(0, columns - width(head)), "dim")], columns)


def wrap(text: str, columns: int) -> Iterator[str]:
    """Yield the lines of a text, those that are too long in pieces; at least one column."""
    from rich.cells import chop_cells

    for line in text.split("\n"):
        yield from chop_cells(line, max(2, columns)) if line else [""]
