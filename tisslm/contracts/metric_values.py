"""What a metric may be besides a number.

What does not live here: who makes them (monitors, samples), and how any sink writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import DataError

__all__ = ["Histogram", "Text", "bin_range"]


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many of an array's values lie where, with their first two moments.

    Attributes
    ----------
    counts : ndarray of int64 of shape (n,)
        Values in ``edges[i] <= v < edges[i + 1]``; the last bin has its right edge, too.
    edges : ndarray of float64 of shape (n + 1,)
        Finite and not decreasing.
    total, squares : float
        Sum of the values, and of their squares.
    """

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]
    total: float
    squares: float

    def __post_init__(self) -> None:
        counts, edges = np.shape(self.counts), np.shape(self.edges)
        if len(counts) != 1 or edges != (counts[0] + 1,) or not counts[0]:
            raise DataError(
                "histogram: expected n >= 1 counts and n + 1 edges, got arrays of shape "
                f"{counts} and {edges}"
            )

    @classmethod
    def of(cls, values: NDArray[Any], bins: int = 64) -> Histogram:
        """Count the finite values of an array in bins of one width, from the least to the greatest.

        Parameters
        ----------
        values : ndarray of any shape and real dtype
            Those that are not finite are left out.
        bins : int

        Raises
        ------
        DataError
            If no value is finite.
        """
        flat = np.asarray(values).reshape(-1).astype(np.float64)
        flat = flat[np.isfinite(flat)]
        if not flat.size:
            raise DataError("histogram: there is no finite value to count")
        counts, edges = np.histogram(flat, bins=bins, range=bin_range(flat, bins))
        return cls(counts.astype(np.int64), edges, float(flat.sum()), float(flat @ flat))

    @property
    def count(self) -> int:
        """Number of values."""
        return int(self.counts.sum())


def bin_range(values: NDArray[Any], bins: int) -> tuple[np.float64, np.float64]:
    """Return where equal bins begin and end: at the least and the greatest value, or further apart.

    Parameters
    ----------
    values : ndarray of a real dtype, not empty
        All finite.
    bins : int

    Returns
    -------
    tuple of float64
        So far from each other that all edges differ, in the middle of the values.
    """
    low, high = np.float64(values.min()), np.float64(values.max())
    least = 4.0 * bins * np.spacing(max(abs(low), abs(high)))  # four steps from edge to edge
    if low == high:
        least = max(least, np.float64(1.0))
    if high - low >= least:
        return low, high
    middle = low + 0.5 * (high - low)
    return middle - 0.5 * least, middle + 0.5 * least


@dataclass(frozen=True)
class Text:
    """A text that a run shows: a sample of the model, a note.

    Attributes
    ----------
    text : str
    """

    text: str
