"""Write the tables of GELU for vectors of 16 floats, ``gelu_tables.inc`` beside this file.

Run by hand, from anywhere, when a number below has changed::

    python tisslm/_kernels/c/gelu_tables.py

A gate is a step h with h(-x) = 1 - h(x), so its tail h(-a) for 0 <= a < REACH is enough. It falls
by fifteen orders of magnitude (the tanh form's by 21), and a polynomial follows a steep function
badly. Its fourth root is a fourth as steep, on a logarithmic scale, and cheap to take back. So
each table has the polynomials of q = h(-a)^(1/4) on PIECES intervals, one in each lane, in the
distance t from the interval's middle, which is 0, 1, 2, ... in units of 1 / PER_UNIT; t is at most
1/2, and sums of its powers keep their digits.

The slope of x h(x) is h + x h', and its tail q^3 (q + 4 a q'), from the same coefficients. So the
fit minimizes the errors of q and of q', both relative to q.

What does not live here: the evaluation (``gelu.inc``), the proof of the accuracy
(``tests/kernels/test_activation.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.special import erfc, expit

Array = NDArray[Any]

TARGET = Path(__file__).with_suffix(".inc")

#: Beyond it, the tail is taken for 0: the exact gate is 6e-16 there, and its value 5e-15.
REACH = 8.0
#: One for each lane.
PIECES = 16
#: The last piece ends at REACH, half a unit beyond its middle. This number is exact in binary.
PER_UNIT = (PIECES - 0.5) / REACH
#: Least degrees that keep the tail of the value to 2e-6, and that of the slope to 6e-6.
DEGREES = {"exact": 5, "tanh": 6}
#: How much an error of the derivative counts in the fit: it is larger by the square of the degree.
SLOPE_WEIGHT = 0.1
NODES = 64


def exact_tail(a: Array) -> tuple[Array, Array]:
    """Return the normal distribution Phi(-a), and its derivative by a."""
    return 0.5 * erfc(a * math.sqrt(0.5)), -np.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)


def tanh_tail(a: Array) -> tuple[Array, Array]:
    """Return (1 - tanh u) / 2 with u = sqrt(2/pi) (a + 0.044715 a^3), and its derivative by a."""
    twice_u = 2 * math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)
    slope = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * a * a)
    tail = expit(-twice_u)
    return tail, -tail * expit(twice_u) * slope


TAILS: dict[str, Callable[[Array], tuple[Array, Array]]] = {"exact": exact_tail, "tanh": tanh_tail}


def table(form: str) -> Array:
    """Fit one table: float32, a row for each power of t from the constant on, a column a piece."""
    degree = DEGREES[form]
    t = 0.5 * np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    basis = chebyshev.chebvander(2 * t, degree)
    slopes = [chebyshev.chebval(2 * t, chebyshev.chebder(one)) for one in np.eye(degree + 1)]
    basis_slopes = 2 * np.stack(slopes, axis=1)
    columns = []
    for piece in range(PIECES):
        tail, slope = TAILS[form]((piece + t) / PER_UNIT)
        # relative to q: q itself becomes 1, and its derivative that of its logarithm
        log_slope = slope / tail / 4 / PER_UNIT
        root = tail[:, None] ** 0.25
        system = np.concatenate([basis / root, SLOPE_WEIGHT * basis_slopes / root])
        wanted = np.concatenate([np.ones(NODES), SLOPE_WEIGHT * log_slope])
        fitted = np.linalg.lstsq(system, wanted, rcond=None)[0]
        columns.append(chebyshev.cheb2poly(fitted) * 2.0 ** np.arange(degree + 1))
    return np.stack(columns, axis=1).astype(np.float32)


def text() -> str:
    """Return the whole file."""
    lines = [
        "/* Written by gelu_tables.py, which says what the numbers are; do not edit.",
        " *",
        " * A row for each power, from the constant on; a column for each piece. */",
        f"#define GELU_REACH {REACH}f",
        f"#define GELU_PER_UNIT {PER_UNIT}f",
    ]
    for form, degree in DEGREES.items():
        name = f"gelu_{form}"
        lines += ["", f"enum {{ {name}_degree = {degree} }};"]
        lines.append(
            f"static const float {name}_table[{degree + 1}][{PIECES}] "
            "__attribute__((aligned(64))) = {"
        )
        for row in table(form):
            numbers = [f"{value:.8e}f" for value in row]
            parts = [", ".join(numbers[at : at + 4]) for at in range(0, PIECES, 4)]
            lines.append("    {" + ",\n     ".join(parts) + "},")
        lines.append("};")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
