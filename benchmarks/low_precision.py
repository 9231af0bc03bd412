"""Numbers of 16 bits in NumPy: bf16 as the upper half of a float32 in uint16, fp16 as float16.

What does not live here: which array of an operation is of which type (``cases``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["narrowed", "widened"]

Array = NDArray[Any]


def narrowed(array: Array, precision: str) -> Array:
    """Return float32 numbers rounded to the nearest of a precision; fp32's are returned as is."""
    if precision == "fp32":
        return array
    if precision == "fp16":
        return array.astype(np.float16)
    bits = array.view(np.uint32)
    to_even = ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
    rounded: Array = ((bits + to_even) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)  # the sum overflows on some NaN


def widened(array: Array) -> Array:
    """Return the numbers of a float32, float16 or bf16 array in float64; others are copied."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    return array.astype(np.float64) if array.dtype.kind == "f" else array.copy()
