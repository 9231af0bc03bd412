"""The first number of an array that is not finite, without a copy of the array.

What does not live here: which arrays are looked at, and when.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops

__all__ = ["Spot", "find_non_finite"]

Array = NDArray[Any]

#: Elements that are looked at together: they and what is made of them stay in a cache.
BLOCK = 2**16

#: The exponent of bfloat16, all ones in NaN and the infinities alone.
_EXPONENT = np.uint16(0x7F80)


@dataclass(frozen=True)
class Spot:
    """Where an array is not finite.

    Attributes
    ----------
    index : tuple of int
        Of the first element, in the order of memory.
    value : float
        NaN or an infinity.
    count, size : int
        How many elements are not finite, and how many there are.
    """

    index: tuple[int, ...]
    value: float
    count: int
    size: int


def find_non_finite(array: Array) -> Spot | None:
    """Return the first element that is NaN or infinite, None if there is none.

    Parameters
    ----------
    array : ndarray of any shape
        Of a float type, or uint16 with the bits of bfloat16; one of any other type is finite.
    """
    if array.dtype.kind != "f" and array.dtype != np.uint16:
        return None
    flat, first, count = array.reshape(-1), -1, 0
    for start in range(0, flat.size, BLOCK):
        bad = _is_bad(flat[start : start + BLOCK])
        found = int(np.count_nonzero(bad))
        if found and first < 0:
            first = start + int(np.argmax(bad))
        count += found
    if first < 0:
        return None
    index = tuple(int(i) for i in np.unravel_index(first, array.shape))
    value = float(ops.widen(flat[first : first + 1])[0])
    return Spot(index, value, count, array.size)


def _is_bad(block: Array) -> Array:
    if block.dtype == np.uint16:
        special: Array = (block & _EXPONENT) == _EXPONENT
        return special
    finite: Array = np.isfinite(block)
    np.logical_not(finite, out=finite)
    return finite
