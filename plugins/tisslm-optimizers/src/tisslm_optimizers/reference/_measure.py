"""How far an update moves parameters, as sums of squares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "measure"]

Array = NDArray[Any]

#: Elements whose squares form one partial sum.
BLOCK = 16384


def measure(before_P: Array | None, after_P: Array, moved_K2: Array | None) -> None:
    """Fill ``moved_K2``: of each 16384 elements, the squares of the moves, and of what was before.

    Parameters
    ----------
    before_P : ndarray of shape (P,), or None
        None where nothing is to be measured.
    after_P : ndarray of shape (P,)
    moved_K2 : ndarray of shape (K, 2), float64, or None
    """
    if before_P is None or moved_K2 is None:
        return
    before_P = before_P.astype(np.float64)
    starts = np.arange(0, before_P.size, BLOCK)
    for i, values_P in enumerate((after_P - before_P, before_P)):
        moved_K2[:, i] = np.add.reduceat(np.square(values_P), starts)
