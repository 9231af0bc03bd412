"""Numbers and texts as people read them on a terminal.

What does not live here: which of them are shown (``board``, and the sink ``console``).
"""

from __future__ import annotations

import math

from tisslm.errors.visible import escaped

__all__ = ["count", "duration", "one_line", "printable", "rate", "short"]

#: Columns that a tab character takes.
_TAB = "    "


def duration(seconds: float) -> str:
    """Return seconds as people write them: ``45s``, ``6m12s``, ``3h07m``, ``2d05h``."""
    if not math.isfinite(seconds):
        return f"{seconds:g}"
    total = round(seconds)
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m{total % 60:02}s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02}m"
    hours = round(seconds / 3600)
    return f"{hours // 24}d{hours % 24:02}h"


def rate(tokens_per_second: float) -> str:
    """Return a speed with three or four digits, such as ``41.2k tok/s``."""
    if tokens_per_second < 999.5:
        return f"{tokens_per_second:.0f} tok/s"
    if tokens_per_second < 999_950:
        return f"{tokens_per_second / 1e3:.1f}k tok/s"
    return f"{tokens_per_second / 1e6:.1f}M tok/s"


def count(number: float) -> str:
    """Return how many, with three digits: ``950``, ``41.2k``, ``3.07M``, ``12.0G``, ``1.50T``."""
    if not math.isfinite(number) or abs(number) < 999.5:
        return f"{number:.0f}"
    units = ((1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"))
    power, unit = next((u for u in units if abs(number) < 999.5 * u[0]), units[-1])
    scaled = number / power
    digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
    return f"{scaled:.{digits}f}{unit}"


def short(number: float) -> str:
    """Return a number in at most eight characters: ``0.834``, ``4.17``, ``1.5e+07``, ``nan``."""
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    if 1e-3 <= abs(number) < 1e4:
        return f"{number:.4g}"
    return f"{number:.1e}"


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
