"""What the targets of an update count."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import IGNORE_INDEX

__all__ = ["TargetWeights"]

Array = NDArray[Any]


class TargetWeights:
    """Count the real targets of an update, and weigh those of its micro-batches."""

    def __init__(self) -> None:
        self._none: Array = np.empty(0, dtype=bool)
        self._weights: Array = np.empty(0)

    @staticmethod
    def planned(rows: int, batch: int, time: int) -> int:
        """Return the bytes that updates of so many rows, in micro-batches, will take."""
        return rows * time * np.dtype(bool).itemsize + batch * time * np.dtype(float).itemsize

    def _is_none(self, y_BT: Array) -> Array:
        if self._none.size < y_BT.size:
            self._none = np.empty(y_BT.size, dtype=bool)
        none_BT = self._none[: y_BT.size].reshape(y_BT.shape)
        np.equal(y_BT, IGNORE_INDEX, out=none_BT)
        return none_BT

    def count(self, y_BT: Array) -> int:
        """Count the targets that are not -100."""
        return int(y_BT.size - np.count_nonzero(self._is_none(y_BT)))

    def weigh(self, y_BT: Array, count: int) -> Array:
        """Weigh each real target by ``1 / count``, and -100 by 0.

        Parameters
        ----------
        y_BT : integer ndarray of shape (B, T)
        count : int
            The number of targets of the whole update.

        Returns
        -------
        ndarray of shape (B, T), float64
            Good until the next call.
        """
        if self._weights.size < y_BT.size:
            self._weights = np.empty(y_BT.size)
        weights_BT = self._weights[: y_BT.size].reshape(y_BT.shape)
        weights_BT.fill(1.0 / max(count, 1))
        np.copyto(weights_BT, 0.0, where=self._is_none(y_BT))
        return weights_BT
