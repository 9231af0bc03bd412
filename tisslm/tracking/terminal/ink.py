"""What a terminal can show: its characters, and its colours.

References
----------
NO_COLOR, https://no-color.org
ECMA-48, section 8.3.117 (select graphic rendition).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from tisslm.tracking.terminal.spans import Line

__all__ = ["ASCII", "UNICODE", "Glyphs", "Ink", "is_terminal", "leads_to_terminal"]


@dataclass(frozen=True)
class Glyphs:
    """The characters that pictures are made of.

    Attributes
    ----------
    braille : bool
        True if curves are drawn in dots of a quarter of a cell's height and half its width.
    done, left : str
        A bar, as far as it is filled and beyond.
    dash, axis, tick, corner : str
        Lines: of headings, of a picture's edge, with a mark, and where edges meet.
    mark, dot : str
        An evaluation, and a point of a curve where there is no braille.
    levels : str
        Heights of a small curve of one row, lowest first.
    more : str
        Stands for a text that goes on.
    """

    braille: bool
    done: str
    left: str
    dash: str
    axis: str
    tick: str
    corner: str
    mark: str
    dot: str
    levels: str
    more: str


UNICODE = Glyphs(True, "━", "─", "─", "│", "┤", "└", "●", "•", "▁▂▃▄▅▆▇█", "…")
ASCII = Glyphs(False, "#", "-", "-", "|", "+", "+", "o", "*", "_.-=*#", "...")

#: One character of each kind that UNICODE uses.
_SAMPLE = "━─│┤└●⣿▁█…·"

#: Select graphic rendition, by the name of a style: bold and dim, and colours.
_WEIGHTS: Mapping[str, str] = {"title": "1", "bold": "1", "dim": "2", "alarm": "1"}
_COLOURS: Mapping[str, str] = {
    "curve": "36",
    "mark": "33",
    "good": "32",
    "warn": "33",
    "bad": "31",
    "alarm": "1;31",
}


@dataclass(frozen=True)
class Ink:
    """How lines become the characters of one terminal.

    Attributes
    ----------
    glyphs : Glyphs
    colour : bool
    encoding : str
    """

    glyphs: Glyphs
    colour: bool
    encoding: str

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] | None = None) -> Ink:
        """Find out what a stream takes.

        Its encoding decides about characters, and so does ``TERM=linux``, whose font has no
        braille. ``NO_COLOR``, set to anything, leaves bold and dim.
        """
        environment = os.environ if environment is None else environment
        encoding = getattr(stream, "encoding", None) or "ascii"
        rich_font = environment.get("TERM") != "linux"
        glyphs = UNICODE if rich_font and _encodes(_SAMPLE, encoding) else ASCII
        return cls(glyphs, not environment.get("NO_COLOR"), encoding)

    def paint(self, line: Line) -> str:
        """Return a line with its styles; characters that the encoding lacks become "?"."""
        parts = []
        for text, style in line:
            code = _COLOURS.get(style) if self.colour else None
            code = code or _WEIGHTS.get(style)
            safe = text.encode(self.encoding, "replace").decode(self.encoding)
            parts.append(f"\x1b[{code}m{safe}\x1b[0m" if code else safe)
        return "".join(parts)

    def plain(self, line: Line) -> str:
        """Return a line without styles, as a file takes it."""
        text = "".join(text for text, _ in line)
        return text.encode(self.encoding, "replace").decode(self.encoding).rstrip()


def _encodes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (LookupError, UnicodeError):
        return False
    return True


def leads_to_terminal(stream: TextIO | None) -> bool:
    """Tell whether a stream is a terminal that is open; None, and a closed stream, are none."""
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):  # no stream of Python's, or a closed one
        return False


def is_terminal(stream: TextIO, environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether a picture that changes can be shown: no file, no dumb terminal, no CI."""
    environment = os.environ if environment is None else environment
    dumb = environment.get("TERM", "") == "dumb"
    is_ci = environment.get("CI", "").lower() not in ("", "0", "false", "no")
    return leads_to_terminal(stream) and not dumb and not is_ci
