"""Storage types of activations: float32 and float64, and bfloat16 and float16 in two bytes.

NumPy has no bfloat16; an array of uint16 holds its bits, the upper half of a float32. Twins widen
what they read and round what they write, to the nearest and ties to even.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["store", "widen"]

Array = NDArray[Any]


def widen(x: Array) -> Array:
    """Return the values of an array in a type with arithmetic: float32 for two-byte types.

    Parameters
    ----------
    x : ndarray of float32, float64, float16, or uint16 with the bits of bfloat16

    Returns
    -------
    ndarray
        ``x`` itself, or a new float32 array.
    """
    if x.dtype == np.uint16:
        return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return x.astype(np.float32) if x.dtype == np.float16 else x


def store(out: Array, values: Array) -> None:
    """Write values to an array of any storage type, rounded to the nearest.

    Parameters
    ----------
    out : ndarray, OUT
    values : ndarray of float32 or float64
    """
    if out.dtype != np.uint16:
        with np.errstate(over="ignore"):  # beyond float16 is infinity, as in the kernels
            out[...] = values
        return
    single = np.ascontiguousarray(values, dtype=np.float32)
    bits = single.view(np.uint32)
    odd = bits >> np.uint32(16) & np.uint32(1)
    rounded = bits + (np.uint32(0x7FFF) + odd)  # a carry into the exponent is what is wanted
    nan = bits | np.uint32(0x400000)  # rounding must not turn a NaN into infinity
    out[...] = (np.where(np.isnan(single), nan, rounded) >> np.uint32(16)).astype(np.uint16)
