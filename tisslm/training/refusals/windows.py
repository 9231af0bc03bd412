"""Which windows of the dataset a batch is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Dataset, Rows

__all__ = ["batch_windows", "windows_of"]

Array = NDArray[Any]


def batch_windows(dataset: Dataset, rows: int, seed: int, position: int) -> list[int]:
    """Return the numbers of the windows of a batch, by the order of ``Dataset.batches``.

    Parameters
    ----------
    dataset : Dataset
    rows : int
        How many rows a batch has.
    seed : int
    position : int
        Number of the batch, from 0, over all epochs.
    """
    epoch, within = divmod(position, -(-len(dataset) // rows))
    order, first = dataset.order(seed, epoch), within * rows
    return [int(order[row]) for row in range(first, min(first + rows, len(dataset)))]


def windows_of(
    rows: Rows, dataset: Dataset, rows_per_update: int, seed: int, position: int
) -> list[int] | None:
    """Return the windows that a step was made of, if it was that batch of the dataset."""
    numbers = batch_windows(dataset, rows_per_update, seed, position)
    if len(numbers) != len(rows.x):
        return None
    same = (_same(rows.row(i), dataset.window(number)) for i, number in enumerate(numbers))
    return numbers if all(same) else None


def _same(row: Rows, window: Rows) -> bool:
    ours, theirs = row.arrays, window.arrays
    if ours.keys() != theirs.keys():
        return False
    return all(_equal(ours[name], theirs[name]) for name in ours)


def _equal(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
