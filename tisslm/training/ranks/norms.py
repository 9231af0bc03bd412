"""The norm of a gradient of which every rank has ranges, with the bits that one rank gets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Communicator
from tisslm.memory.shards import Range

__all__ = ["SharedNorm"]

Array = NDArray[Any]


@final
class SharedNorm:
    """Adds up the squares of blocks that lie with one rank each, and of those that do not.

    A block is 16384 elements of the whole. Where a range ends within one, all ranks are sent its
    elements, and each adds the whole block up.

    Parameters
    ----------
    like_P : ndarray of shape (P,)
        The whole, or an array like it.
    of_ranks : sequence of sequence of (start, stop)
        The ranges of each rank; together, they are all of it.
    communicator : Communicator
    """

    def __init__(
        self, like_P: Array, of_ranks: Sequence[Sequence[Range]], communicator: Communicator
    ) -> None:
        self._count, self._dtype = like_P.size, like_P.dtype
        self._communicator = communicator
        self._of_ranks = of_ranks
        self._parts_K = ops.norm_parts(like_P)
        ends = (end for ranges in of_ranks for found in ranges for end in self._ends(*found))
        self._cut = {
            start // ops.NORM_BLOCK: np.zeros(
                min(ops.NORM_BLOCK, self._count - start // ops.NORM_BLOCK * ops.NORM_BLOCK),
                self._dtype,
            )
            for end in ends
            for start, _ in _blocks(end)
        }

    def compute(self, pieces: Iterable[tuple[Range, Array]]) -> float:
        """Return the norm; all ranks call this.

        Parameters
        ----------
        pieces : iterable of ((start, stop), ndarray)
            The ranges of this rank, and what is in them.
        """
        sums, ends = [np.zeros(0)], [np.zeros(0, self._dtype)]
        for (start, stop), piece in pieces:
            first, last = self._body(start, stop)
            if first < last:
                body = piece[first - start : last - start]
                sums.append(ops.norm_parts(body))
                ops.squared_norm(body, sums[-1])
            ends += [piece[low - start : high - start] for low, high in self._ends(start, stop)]
        sent = np.concatenate(sums).tobytes() + np.concatenate(ends).tobytes()
        for ranges, found in zip(self._of_ranks, self._communicator.all_gather(sent), strict=True):
            self._take(ranges, found)
        for block, values in self._cut.items():
            ops.squared_norm(values, self._parts_K[block : block + 1])
        return ops.norm_of_parts(self._parts_K) if self._count else 0.0

    def _take(self, ranges: Sequence[Range], found: bytes) -> None:
        """Keep what a rank has sent."""
        taken = 0
        for start, stop in ranges:
            first, last = self._body(start, stop)
            block, count = first // ops.NORM_BLOCK, -(-(last - first) // ops.NORM_BLOCK)
            self._parts_K[block : block + count] = np.frombuffer(found, np.float64, count, taken)
            taken += 8 * count
        for start, stop in ranges:
            for end in self._ends(start, stop):
                for low, high in _blocks(end):
                    values = np.frombuffer(found, self._dtype, high - low, taken)
                    at = low % ops.NORM_BLOCK
                    self._cut[low // ops.NORM_BLOCK][at : at + high - low] = values
                    taken += values.nbytes

    def _body(self, start: int, stop: int) -> Range:
        """Return the part of a range that is whole blocks; the last block of all may be short."""
        block = ops.NORM_BLOCK
        first = -(-start // block) * block
        last = stop if stop == self._count else stop // block * block
        return (first, last) if first < last else (stop, stop)

    def _ends(self, start: int, stop: int) -> Iterator[Range]:
        """Yield what of a range is no whole block."""
        first, last = self._body(start, stop)
        yield from ((a, b) for a, b in ((start, first), (last, stop)) if a < b)


def _blocks(end: Range) -> Iterator[Range]:
    """Yield the parts of a range that lie in one block each."""
    start, stop = end
    while start < stop:
        low, start = start, min(stop, (start // ops.NORM_BLOCK + 1) * ops.NORM_BLOCK)
        yield low, start
