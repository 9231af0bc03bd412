"""The base class of datasets that write their rows into given arrays, which are reused."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Dataset, Rows
from tisslm.datasets.permutation import KeyedPermutation
from tisslm.errors import ConfigError, DataError

__all__ = ["RowDataset"]

IntArray = NDArray[Any]

#: Positions of the order that are computed at a time: arrays of 2 KiB need no new memory map.
ORDER_PLACES = 256


class RowDataset(Dataset):
    """A dataset whose rows are filled into arrays: a subclass writes ``fill``.

    It writes ``order``, too, where rows do not come in a keyed permutation.

    Attributes
    ----------
    has_starts : bool
        Whether windows and batches have ``start``, the place where each token's document begins.
    """

    has_starts: bool = False

    @abstractmethod
    def fill(self, i: int, rows: Rows, place: int, scratch: Any) -> None:
        """Write row ``i``: inputs, targets and, if ``has_starts``, starts.

        Parameters
        ----------
        i : int
            In range; it was checked.
        rows : Rows
            Of int32 arrays of shape (B, T).
        place : int
            Which of these rows is written.
        scratch : object
            What ``scratch`` returned; its contents may be overwritten.
        """

    def order(self, seed: int, epoch: int) -> Sequence[int]:
        """Return the keyed permutation of an epoch; indexing it takes constant time."""
        return KeyedPermutation(len(self), seed, epoch)

    def scratch(self) -> Any:
        """Return what ``fill`` needs beside the row; each thread that fills rows has its own."""
        return None

    def check_source(self) -> None:
        """Raise ``DataError`` if a file that is read has changed; called when an epoch starts."""

    def window(self, i: int) -> Rows:
        """Return row ``i``, in new int32 arrays of shape (T,).

        Raises
        ------
        DataError
            If there is no such row; negative numbers do not count from the end.
        """
        if not 0 <= i < len(self):
            raise DataError(f"dataset: expected a window number in range({len(self)}), got {i}")
        rows = self._empty(1)
        self.fill(int(i), rows, 0, self.scratch())
        return rows.row(0)

    def batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Rows]:
        """Yield what the contract's ``batches`` does, with the rows filled in together.

        Yields
        ------
        Rows
            Of new int32 arrays of shape (B, T).
        """
        for rows in self._stream(batch_size, seed, start):
            yield rows.copy()

    def stream(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Rows]:
        """Yield what ``batches`` does, in two sets of arrays that take turns.

        If a subclass defines ``batches``, that method is used.
        """
        if type(self).batches is not RowDataset.batches:
            return self.batches(batch_size, seed, start)
        return self._stream(batch_size, seed, start)

    def stream_part(self, batch_size: int, seed: int, start: int, part: range) -> Iterator[Rows]:
        """Yield some rows of each batch, and fill in no others.

        A subclass that defines ``batches`` or ``stream`` is read by that.
        """
        own, base = type(self), RowDataset
        if own.batches is not base.batches or own.stream is not base.stream:
            return super().stream_part(batch_size, seed, start, part)
        return self._stream(batch_size, seed, start, part)

    def stream_bytes(self, batch_size: int) -> int:
        """Return the bytes of the arrays that a ``stream`` holds."""
        arrays = 2 * (3 if self.has_starts else 2)
        return arrays * min(batch_size, len(self)) * self.seq_len * np.dtype(np.int32).itemsize

    def _empty(self, n_rows: int) -> Rows:
        shape = (n_rows, self.seq_len)
        start = np.empty(shape, dtype=np.int32) if self.has_starts else None
        return Rows(np.empty(shape, dtype=np.int32), np.empty(shape, dtype=np.int32), start)

    def _stream(
        self, batch_size: int, seed: int, start: int, part: range | None = None
    ) -> Iterator[Rows]:
        if batch_size < 1:
            raise ConfigError(f"batch_size: expected an integer >= 1, got {batch_size}")
        part = range(batch_size) if part is None else part
        whole = min(len(part), len(self))
        sets = itertools.cycle((self._empty(whole), self._empty(whole)))
        scratch = self.scratch()
        epoch, batch = divmod(start, -(-len(self) // batch_size))
        while True:
            self.check_source()
            firsts = range(batch * batch_size, len(self), batch_size)
            numbers = _numbers(self.order(seed, epoch), firsts, part)
            for first in firsts:
                rows, n_rows = next(sets), max(0, min(whole, len(self) - first - part.start))
                # the places first: zip takes no number that has no row
                for place, i in zip(range(n_rows), numbers, strict=False):
                    self.fill(i, rows, place, scratch)
                yield rows if n_rows == whole else rows.part(0, n_rows)
            epoch, batch = epoch + 1, 0


def _numbers(order: Sequence[int], firsts: range, part: range) -> Iterator[int]:
    """Yield the numbers of the rows of a part of each batch."""
    spans: Iterable[tuple[int, int]] = [(firsts.start, firsts.stop)]
    if len(part) < firsts.step:  # otherwise the numbers of one batch lie beside those of the next
        spans = ((first + part.start, first + part.stop) for first in firsts)
    for start, stop in spans:
        for begin in range(start, min(stop, len(order)), ORDER_PLACES):
            yield from take(order, begin, min(begin + ORDER_PLACES, stop, len(order)))


def take(order: Sequence[int], start: int, stop: int) -> list[int]:
    """Return a slice of an order, computed at once if the order has ``take``."""
    together = getattr(order, "take", None)
    if together is not None:
        return list(together(start, stop).tolist())
    return [int(order[place]) for place in range(start, stop)]
