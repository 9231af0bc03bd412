"""Twin of the summary of an array: sums, extremes and counts, from which monitors compute."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["summarize"]

Array = NDArray[Any]

#: Elements of one block; the kernel has the same number.
BLOCK = 16384


def summarize(x_P: Array, low: float, high: float, partial_K5: Array) -> None:
    """Compute the sums, the largest magnitude and two counts of each block of 16384 elements.

    Parameters
    ----------
    x_P : ndarray of shape (P,), IN
    low, high : float
        Rounded to the array's type.
    partial_K5 : ndarray of shape (ceil(P / 16384), 5), float64, OUT
        ``sum x``, ``sum x^2``, ``max |x|`` (NaN if any is), how many are zero, and how many are
        below ``low`` or above ``high``.
    """
    below, above = x_P.dtype.type(low), x_P.dtype.type(high)
    for k, start in enumerate(range(0, len(x_P), BLOCK)):
        x = x_P[start : start + BLOCK]
        wide = x.astype(np.float64)
        outside = np.count_nonzero((x < below) | (x > above))
        zeros = len(x) - np.count_nonzero(x)
        partial_K5[k] = wide.sum(), wide @ wide, np.abs(wide).max(), zeros, outside
