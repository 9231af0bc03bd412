"""Rows of several documents, for the tests of what keeps them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import TokenDataset
from tisslm.contracts import IGNORE_INDEX, Dataset, Rows

IntArray = NDArray[Any]


def starts_of_lengths(lengths: Sequence[int]) -> IntArray:
    """Return ``start_T`` of a row of documents of these lengths."""
    begins = np.cumsum([0, *lengths[:-1]])
    return np.repeat(begins, lengths).astype(np.int32)


def stops_of(start_BT: IntArray) -> IntArray:
    """Return where the document of each token ends, given where it begins."""
    stop = np.empty_like(start_BT)
    for row, start_T in zip(stop, start_BT, strict=True):
        lengths = np.diff(np.append(np.unique(start_T), len(start_T)))
        row[:] = np.repeat(np.unique(start_T) + lengths, lengths)
    return stop


def starts_of(seed: int, batch: int, time: int) -> IntArray:
    """Draw starts of shape (B, T): rows of few long documents and rows of many short ones."""
    rng = np.random.default_rng(seed)
    start = np.zeros((batch, time), np.int32)
    for row in start:
        share = rng.choice([0.02, 0.1, 0.6])
        row[:] = np.maximum.accumulate(np.arange(time) * (rng.random(time) < share))
    return start


class Packed(TokenDataset):
    """Windows of a token array, cut into documents."""

    def window(self, i):
        x, y = super().window(i)
        start = starts_of(i, 1, self.seq_len)[0]
        y[:-1][start[1:] != start[:-1]] = IGNORE_INDEX
        return Rows(x, y, start)

    def batches(self, batch_size, seed, start=0):
        return Dataset.batches(self, batch_size, seed, start)
