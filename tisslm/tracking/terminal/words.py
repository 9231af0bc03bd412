"""Texts of models and files, made such that a terminal shows them and does nothing else.

Numbers are written by ``tisslm.system.quantities``.
"""

from __future__ import annotations

from tisslm.errors.visible import escaped

__all__ = ["one_line", "printable"]

#: Columns that a tab character takes.
_TAB = "    "


def printable(text: str) -> str:
    r"""Return a text in which each character has a width; lines are kept.

    What a model writes, or a file says, may hold escape sequences and marks that turn the
    direction of writing. Such a character is shown as its escape (``\x1b``), and so is one that
    takes no column or that no font has, because a picture is measured in columns.
    """
    lines = text.replace("\r\n", "\n").replace("\t", _TAB)
    return "".join(c if c == "\n" or c.isprintable() else escaped(c) for c in lines)


def one_line(text: str) -> str:
    """Return a text as one printable line, runs of blanks and ends of lines as one blank."""
    return " ".join(printable(text).split())
