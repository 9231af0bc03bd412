"""Packing whole documents into rows by best fit."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RowPlan", "plan_rows"]

IntArray = NDArray[np.int64]

#: The most open rows, which may still take a document; beyond that, the fullest is closed.
OPEN_ROWS = 256


@dataclass(frozen=True)
class RowPlan:
    """The pieces of documents that make each row.

    A piece of n places has n inputs and, one token further on, n targets.

    Attributes
    ----------
    first : int64 array of shape (rows + 1,)
        Row r has the pieces ``first[r]`` to ``first[r + 1] - 1``.
    begins : int64 array of shape (pieces,)
        The index of a piece's first input in the tokens.
    lengths : int64 array of shape (pieces,)
        The number of places of a piece, at least 1; those of a row add up to at most T.
    """

    first: IntArray
    begins: IntArray
    lengths: IntArray

    @property
    def nbytes(self) -> int:
        """The bytes of the arrays."""
        return self.first.nbytes + self.begins.nbytes + self.lengths.nbytes

    @property
    def most_pieces(self) -> int:
        """The largest number of pieces in a row."""
        return int(np.diff(self.first).max()) if len(self.first) > 1 else 0


def plan_rows(offsets: IntArray, seq_len: int, learn: NDArray[Any] | None = None) -> RowPlan:
    """Assign whole documents to rows, in order; a longer document first fills rows of its own.

    A document of n tokens takes n - 1 places, as its last token is a target only. Each goes to
    the open row where the least room is left after it; if there is none, to a new one. It is a
    pure function of its arguments, with the work of a few look-ups for each document.

    Parameters
    ----------
    offsets : int64 array of shape (m + 1,)
    seq_len : int
        The places of a row, T.
    learn : bool or uint8 array of shape (n,), optional
        Whether a token may be a target; a piece without one is in no row.

    References
    ----------
    H. Ding et al. Fewer Truncations Improve Language Modeling. arXiv 2404.10830 (best-fit
    packing).
    """
    places = np.diff(offsets) - 1
    pieces = -(-places // seq_len)
    document = np.repeat(np.arange(len(places)), pieces)
    within = np.arange(len(document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begins = offsets[document] + within * seq_len
    lengths = np.minimum(places[document] - within * seq_len, seq_len)
    if learn is not None:
        pairs = zip(begins.tolist(), lengths.tolist(), strict=True)
        kept = np.array([bool(learn[b + 1 : b + n + 1].any()) for b, n in pairs], dtype=bool)
        begins, lengths = begins[kept], lengths[kept]
    rows, n_rows = _best_fit(lengths, seq_len)
    by_row = np.argsort(rows, kind="stable")
    first = np.searchsorted(rows[by_row], np.arange(n_rows + 1))
    return RowPlan(first, begins[by_row], lengths[by_row])


def _best_fit(lengths: IntArray, seq_len: int) -> tuple[IntArray, int]:
    """Return the row of each piece, and the number of rows."""
    rows = np.empty(len(lengths), np.int64)
    room: list[tuple[int, int]] = []  # of each open row: places left, and its number; rising
    n_rows = 0
    for piece, length in enumerate(lengths.tolist()):
        place = bisect_left(room, (length, -1))
        if place < len(room):
            left, row = room.pop(place)
        else:
            left, row = seq_len, n_rows
            n_rows += 1
        rows[piece] = row
        if left > length:
            insort(room, (left - length, row))
            if len(room) > OPEN_ROWS:
                del room[0]
    return rows, n_rows
