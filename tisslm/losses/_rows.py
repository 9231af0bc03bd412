"""The check that every loss makes before its kernel runs, and the array that it fills.

Not here: the values of targets, which the kernels check.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import ShapeError

__all__ = ["new_losses"]

Array = NDArray[Any]


def new_losses(where: str, logits_NV: Array, targets_N: Array, weights_N: Array) -> Array:
    """Check the arrays of a tile, and return one for its losses.

    Parameters
    ----------
    where : str
        The loss, such as ``"loss focal"``.
    logits_NV : ndarray of shape (N, V), float32 or float64, C-contiguous
    targets_N : ndarray of shape (N,), int32
    weights_N : ndarray of shape (N,), same dtype as the logits

    Returns
    -------
    ndarray of shape (N,), same dtype as the logits, uninitialized

    Raises
    ------
    ShapeError
        If an array is anything else; kernels read memory without looking.
    """
    dtype = logits_NV.dtype
    if logits_NV.ndim != 2 or dtype not in (np.float32, np.float64):
        raise ShapeError(
            f"{where}: expected logits of shape (N, V), float32 or float64, "
            f"got {_describe(logits_NV)}"
        )
    rows = logits_NV.shape[:1]
    for name, array, wanted in (("targets", targets_N, np.int32), ("weights", weights_N, dtype)):
        if array.shape != rows or array.dtype != wanted:
            raise ShapeError(
                f"{where}: expected {name} of shape {rows} {np.dtype(wanted)} for logits of "
                f"{_describe(logits_NV)}, got {_describe(array)}"
            )
    for name, array in (("logits", logits_NV), ("targets", targets_N), ("weights", weights_N)):
        if not array.flags.c_contiguous:
            raise ShapeError(
                f"{where}: expected C-contiguous {name}, got strides {array.strides}; "
                "np.ascontiguousarray makes a copy that is"
            )
    return np.empty(rows, dtype=dtype)


def _describe(array: Array) -> str:
    return f"{array.shape} {array.dtype}"
