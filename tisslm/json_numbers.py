"""Numbers as JSON has them: those that are not finite become words.

What does not live here: reading JSON (``strict_json``), and which numbers are written.
"""

from __future__ import annotations

import math

__all__ = ["plain_number"]


def plain_number(number: float) -> float | str:
    """Return a number, or "NaN", "Infinity" or "-Infinity", for which JSON has no numbers.

    ``float()`` reads the words back in Python, ``Number()`` in JavaScript.
    """
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
