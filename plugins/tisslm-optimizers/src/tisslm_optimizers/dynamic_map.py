"""The 256 numbers that a byte may stand for, closer together towards zero.

Each of seven powers of ten has twice as many levels as the one below it. Signed bytes have 127
levels to either side of zero, and 1; unsigned ones have 254, 0 and 1.

References
----------
Dettmers, Lewis, Shleifer and Zettlemoyer, "8-bit Optimizers via Block-wise Quantization",
arXiv 2110.02861, section 2.1; the levels are those of the authors' bitsandbytes
(``create_dynamic_map``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVELS", "MIDPOINTS", "nearest", "pack_signed", "unpack_signed"]

Array = NDArray[Any]

DECADES = 7
#: The byte of zero where bytes are signed; those below it stand for negative numbers.
ZERO = 127


def _levels(first: int) -> Array:
    """Return zero, ``first`` levels in the lowest decade, twice as many in each, and one."""
    found: list[Array] = [np.zeros(1)]
    for decade in range(DECADES):
        edges = np.linspace(0.1, 1.0, first * 2**decade + 1)
        found.append(10.0 ** (decade - DECADES + 1) * (edges[:-1] + edges[1:]) / 2.0)
    return np.concatenate([*found, np.ones(1)])


#: Magnitudes in ascending order, rounded to float32 so that both kinds of kernels have the same.
LEVELS = {
    name: _levels(first).astype(np.float32) for name, first in (("signed", 1), ("unsigned", 2))
}
#: Between each level and the next.
MIDPOINTS = {
    name: ((levels[:-1].astype(np.float64) + levels[1:]) / 2.0).astype(np.float32)
    for name, levels in LEVELS.items()
}


def nearest(name: str, magnitude_N: Array) -> Array:
    """Return the place of the level that is nearest to each number; the smaller of two."""
    return np.searchsorted(MIDPOINTS[name], magnitude_N, side="left")


def pack_signed(x_N: Array) -> Array:
    """Return the byte of each number in [-1, 1]; below zero, the last level is missing."""
    place_N = nearest("signed", np.abs(x_N))
    return np.where(x_N >= 0, ZERO + place_N, ZERO - np.minimum(place_N, ZERO)).astype(np.uint8)


def unpack_signed(byte_N: Array) -> Array:
    """Return the number that each byte stands for."""
    place_N = byte_N.astype(np.int64) - ZERO
    return np.sign(place_N) * LEVELS["signed"][np.abs(place_N)]
