"""Times, sizes and numbers as people read them: one way of writing each, for every place.

Durations are written as settings take them (``training.max_time``), counts with three digits and a
letter for the thousands.

What does not live here: reading them (``time_limits``, ``memory_limit``), and which metric is
written how (``tisslm.config.metrics``).
"""

from __future__ import annotations

import math

__all__ = [
    "THOUSANDS",
    "count_text",
    "duration_text",
    "megabytes_text",
    "short_text",
    "size_text",
    "step_time_text",
]

#: Letters for powers of a thousand, smallest first.
THOUSANDS = ((1e3, "k"), (1e6, "M"), (1e9, "B"), (1e12, "T"))


def duration_text(seconds: float) -> str:
    """Return seconds as ``0.34s``, ``8.3s``, ``45s``, ``6m12s``, ``3h07m`` or ``2d05h``.

    Examples
    --------
    >>> [duration_text(x) for x in (0.0, 0.341, 8.26, 130.0, 7300.0, 2e5)]
    ['0s', '0.34s', '8.3s', '2m10s', '2h02m', '2d08h']
    """
    if not math.isfinite(seconds):
        return f"{seconds:g}"
    if abs(seconds) < 9.95:
        return f"{round(seconds, 3):.2g}s"
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


def step_time_text(seconds: float) -> str:
    """Return a short time with three digits: ``0.123 ms``, ``99.5 ms``, ``1.25 s``, ``2m10s``.

    Examples
    --------
    >>> [step_time_text(x) for x in (0.000123, 0.0995, 1.25, 130.0)]
    ['0.123 ms', '99.5 ms', '1.25 s', '2m10s']
    """
    if seconds < 0.995:
        return f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 59.5 else duration_text(seconds)


def size_text(nbytes: float) -> str:
    """Return a number of bytes with the binary unit that suits it.

    Examples
    --------
    >>> size_text(12), size_text(2.36 * 2**30)
    ('12 B', '2.36 GiB')
    """
    size, unit = float(nbytes), "B"
    for further in ("KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024:
            break
        size, unit = size / 1024, further
    return f"{size:.0f} B" if unit == "B" else f"{size:.4g} {unit}"


def megabytes_text(nbytes: float) -> str:
    """Return the length of a text or page in units of 10^6 bytes, as corpora are measured.

    Examples
    --------
    >>> megabytes_text(1_234_560_000)
    '1,234.6 MB'
    """
    return f"{nbytes / 1e6:,.1f} MB"


def count_text(number: float) -> str:
    """Return how many, with three digits.

    Examples
    --------
    >>> [count_text(x) for x in (950, 41_234, 3.07e6, 1.2e10, 1.5e12)]
    ['950', '41.2k', '3.07M', '12.0B', '1.50T']
    """
    if not math.isfinite(number) or abs(number) < 999.5:
        return f"{number:.0f}"
    power, unit = next((u for u in THOUSANDS if abs(number) < 999.5 * u[0]), THOUSANDS[-1])
    scaled = number / power
    digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
    return f"{scaled:.{digits}f}{unit}"


def short_text(number: float) -> str:
    """Return a number in at most eight characters, for columns of one width.

    Examples
    --------
    >>> [short_text(x) for x in (0.8341, 4.17, 1.5e7, float("nan"))]
    ['0.8341', '4.17', '1.5e+07', 'nan']
    """
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    if 1e-3 <= abs(number) < 1e4:
        return f"{number:.4g}"
    return f"{number:.1e}"
