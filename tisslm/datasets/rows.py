"""The base class of datasets that write their rows into given arrays, which are reused."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Dataset, Window
from tisslm.errors import ConfigError, DataError

__all__ = ["RowDataset"]

IntArray = NDArray[Any]

#: Positions of the order that are computed at a time: arrays of 2 KiB need no new memory map.
ORDER_PLACES = 256


class RowDataset(Dataset):
    """A dataset whose rows are filled into arrays: a subclass writes ``fill`` and ``order``.

    Attributes
    ----------
    has_starts : bool
        Whether windows and batches are triples, with the start of each token's document.
    """

    has_starts: bool = False

    @abstractmethod
    def fill(self, i: int, row: IntArray, scratch: Any) -> None:
        """Write row ``i`` into ``row``: inputs, targets and, if it has three, starts.

        Parameters
        ----------
        i : int
            The number of a row that exists.
        row : int32 array of shape (2, T) or (3, T)
        scratch : object
            What ``scratch`` returned; its contents may be overwritten.
        """

    def scratch(self) -> Any:
        """Return what ``fill`` needs beside the row; each thread that fills rows has its own."""
        return None

    def check_source(self) -> None:
        """Raise ``DataError`` if a file that is read has changed; called when an epoch starts."""

    def window(self, i: int) -> Window:
        """Return inputs, targets and, if ``has_starts``, starts of row ``i``: int32, shape (T,).

        Raises
        ------
        DataError
            If there is no such row; negative numbers do not count from the end.
        """
        if not 0 <= i < len(self):
            raise DataError(f"dataset: expected a window number in range({len(self)}), got {i}")
        row = np.empty((3 if self.has_starts else 2, self.seq_len), dtype=np.int32)
        self.fill(int(i), row, self.scratch())
        return tuple(row)

    def batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Window]:
        """Yield the batches of the contract's ``batches``, with the rows filled in together.

        Yields
        ------
        x_BT, y_BT : int32 arrays of shape (B, T)
        start_BT : int32 array of shape (B, T), if ``has_starts``
        """
        for arrays in self._stream(batch_size, seed, start):
            yield tuple(array.copy() for array in arrays)

    def stream(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Window]:
        """Yield the batches of ``batches``, in two sets of arrays that alternate.

        If a subclass defines ``batches``, that method is used.
        """
        if type(self).batches is not RowDataset.batches:
            return self.batches(batch_size, seed, start)
        return self._stream(batch_size, seed, start)

    def stream_bytes(self, batch_size: int) -> int:
        """Return the bytes of the arrays that a ``stream`` holds."""
        arrays = 2 * (3 if self.has_starts else 2)
        return arrays * min(batch_size, len(self)) * self.seq_len * np.dtype(np.int32).itemsize

    def _stream(self, batch_size: int, seed: int, start: int) -> Iterator[Window]:
        if batch_size < 1:
            raise ConfigError(f"batch_size: expected an integer >= 1, got {batch_size}")
        kinds = 3 if self.has_starts else 2
        shape = (2, kinds, min(batch_size, len(self)), self.seq_len)
        sets = itertools.cycle(np.empty(shape, dtype=np.int32))
        scratch = self.scratch()
        epoch, batch = divmod(start, -(-len(self) // batch_size))
        while True:
            self.check_source()
            numbers = numbers_from(self.order(seed, epoch), batch * batch_size)
            for first in range(batch * batch_size, len(self), batch_size):
                arrays = next(sets)[:, : len(self) - first]
                # the rows first: zip takes no number that has no row
                for place, i in zip(range(arrays.shape[1]), numbers, strict=False):
                    self.fill(i, arrays[:, place], scratch)
                yield tuple(arrays)
            epoch, batch = epoch + 1, 0


def numbers_from(order: Sequence[int], first: int) -> Iterator[int]:
    """Yield the numbers of an order from a position on."""
    for start in range(first, len(order), ORDER_PLACES):
        yield from take(order, start, min(start + ORDER_PLACES, len(order)))


def take(order: Sequence[int], start: int, stop: int) -> list[int]:
    """Return a slice of an order, computed at once if the order has ``take``."""
    together = getattr(order, "take", None)
    if together is not None:
        return list(together(start, stop).tolist())
    return [int(order[place]) for place in range(start, stop)]
