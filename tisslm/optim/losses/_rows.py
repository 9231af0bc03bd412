"""Checking the arrays of a loss before its kernel runs, and the array for its results."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import ShapeError

__all__ = ["RowLosses"]

Array = NDArray[Any]


class RowLosses:
    """The losses of a tile's rows, in an array that is reused from tile to tile.

    Parameters
    ----------
    where : str
        The name of the loss in messages, such as ``"loss focal"``.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._kept: Array = np.empty(0, dtype=np.float32)

    def view(self, logits_NV: Array, targets_N: Array, weights_N: Array) -> Array:
        """Check the arrays of a tile, and return an array for its losses.

        Parameters
        ----------
        logits_NV : ndarray of shape (N, V), float32 or float64, C-contiguous
        targets_N : ndarray of shape (N,), int32
        weights_N : ndarray of shape (N,), same dtype as the logits

        Returns
        -------
        ndarray of shape (N,), same dtype as the logits
            Not initialized; valid until the next call.

        Raises
        ------
        ShapeError
            If an array has another type or shape, which kernels do not check.
        """
        _check(self._where, logits_NV, targets_N, weights_N)
        rows = len(logits_NV)
        if len(self._kept) < rows or self._kept.dtype != logits_NV.dtype:
            self._kept = np.empty(rows, dtype=logits_NV.dtype)
        return self._kept[:rows]


def _check(where: str, logits_NV: Array, targets_N: Array, weights_N: Array) -> None:
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


def _describe(array: Array) -> str:
    return f"{array.shape} {array.dtype}"
