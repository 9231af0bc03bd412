"""Numbers as a reader wants them: short, and told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tisslm.system.quantities import THOUSANDS

__all__ = ["number_text", "tick_texts"]


def number_text(value: float, digits: int = 4) -> str:
    """Return a number with so many digits: 12300 as 12.3k, 0.00001 as 1e-5.

    Examples
    --------
    >>> [number_text(x) for x in (0, 2.34567, 12345.6, 3e-5, float("nan"))]
    ['0', '2.346', '12.35k', '3e-5', 'NaN']
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "-inf" if value < 0 else "inf"
    for size, unit in reversed(THOUSANDS):
        if abs(value) >= 10 * size or (abs(value) >= size and size > 1e3):
            return f"{value / size:.{digits}g}{unit}" if abs(value) < 1e15 else f"{value:.2e}"
    if 0 < abs(value) < 1e-3:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        short = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{short}e{int(exponent)}"
    return f"{value:.{digits}g}" if abs(value) < 1e3 else f"{value:.{max(0, digits - 4)}f}"


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Return labels of an axis, with as few digits as tell the ticks apart.

    Examples
    --------
    >>> tick_texts([2.0, 2.0005, 2.001])
    ['2', '2.0005', '2.001']
    """
    for digits in range(3, 18):
        texts = [number_text(tick, digits) for tick in ticks]
        if len(set(texts)) == len(set(ticks)):
            return texts
    return [repr(tick) for tick in ticks]
