"""Windows over a flat array of token ids, in memory or in a file."""

from __future__ import annotations

import mmap
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Rows
from tisslm.datasets.held_file import unmapped
from tisslm.datasets.joined import SpanArray
from tisslm.datasets.rows import RowDataset
from tisslm.errors import ConfigError, DataError, ShapeError

__all__ = ["TokenDataset", "owned_bytes"]

IntArray = NDArray[Any]
SCAN_TOKENS = 2**22  # ids are checked in pieces, so that a file is never held whole


class TokenDataset(RowDataset):
    """Windows of ``seq_len`` inputs and their next tokens, side by side in a token array.

    Window i has the inputs ``tokens[i*T : i*T + T]`` and the targets one further on, so each
    token but the first is a target once. There are ``(len(tokens) - 1) // T`` windows; what
    remains at the end, fewer than T targets, is in none, because all windows have length T.

    Parameters
    ----------
    tokens : array_like of shape (n,), integer
        Kept as it is, in its own type; a memory-mapped array stays on disk, and a read-only
        ``numpy.memmap`` is read from its file, which must not be written meanwhile. It is read
        once here, to check the ids.
    seq_len : int
        T, at least 1.
    vocab_size : int, optional
        Ids must be below it; by default, the largest id plus one.
    batch_size, seed : int, optional
        What iteration over the dataset uses; the Trainer fills them in when left out.

    Raises
    ------
    ConfigError
        If ``seq_len`` is not an integer of at least 1.
    ShapeError
        If the tokens are not a flat array of integers.
    DataError
        If there are fewer than T + 1 tokens, or an id is negative or not below ``vocab_size``.
    """

    def __init__(
        self,
        tokens: Any,
        seq_len: int,
        *,
        vocab_size: int | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> None:
        self.tokens: IntArray = np.asarray(tokens)
        check_layout(self.tokens, seq_len)
        self._source = unmapped(tokens)
        self.seq_len = seq_len
        self.vocab_size = check_ids(self._source, vocab_size)
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.seq_len

    @property
    def nbytes(self) -> int:
        """The bytes of the tokens; 0 if they are in a file."""
        return owned_bytes(self.tokens)

    def fill(self, i: int, rows: Rows, place: int, scratch: Any) -> None:
        """Write inputs and targets of window ``i`` into a row of ``rows``."""
        begin = i * self.seq_len
        piece = self._source[begin : begin + self.seq_len + 1]
        rows.x[place] = piece[:-1]
        rows.y[place] = piece[1:]


def owned_bytes(array: NDArray[Any] | SpanArray) -> int:
    """Return the bytes of an array in memory, 0 for one that is mapped from a file."""
    owner: object = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return 0 if isinstance(owner, mmap.mmap) else array.nbytes


def check_layout(tokens: IntArray, seq_len: int) -> None:
    """Raise an error unless tokens are a flat array of integers with at least one window."""
    if not isinstance(seq_len, Integral) or seq_len < 1:
        raise ConfigError(f"seq_len: expected an integer >= 1, got {seq_len!r}")
    if tokens.ndim != 1:
        raise ShapeError(
            f"dataset: expected a one-dimensional array of token ids, got shape {tokens.shape}; "
            "flatten it with tokens.reshape(-1)"
        )
    if tokens.size and tokens.dtype.kind not in "iu":
        raise ShapeError(
            f"dataset: expected integer token ids, got {tokens.dtype}; "
            "convert them, for example with tokens.astype('uint16')"
        )
    if len(tokens) <= seq_len:
        raise DataError(
            f"dataset: expected at least {seq_len + 1} tokens for one window of seq_len {seq_len} "
            f"and its last target, got {len(tokens)}; give a longer text or a smaller seq_len"
        )


def check_ids(tokens: IntArray | SpanArray, vocab_size: int | None) -> int:
    """Check every id; return the vocabulary size, by default the largest id plus one."""
    # Ids are stored as int32 in every batch, so this bounds them when nothing else does.
    limit = 2**31 if vocab_size is None else vocab_size
    largest = 0
    for start in range(0, len(tokens), SCAN_TOKENS):
        part = tokens[start : start + SCAN_TOKENS]
        low, high = int(part.min()), int(part.max())
        if low < 0 or high >= limit:
            place = int(np.argmax((part < 0) | (part > limit - 1)))
            raise DataError(
                f"dataset: token id {part[place]} at position {start + place} is not in "
                f"range({limit}), the vocabulary; use the tokenizer that made the tokens, or set "
                "vocab_size to at least the largest id plus one"
            )
        largest = max(largest, high)
    return largest + 1 if vocab_size is None else vocab_size
