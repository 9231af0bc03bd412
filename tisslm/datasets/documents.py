"""Documents as pieces of text, marked as targets or not, and the same documents as token ids.

Files are read in ``sources``, text becomes ids in ``encoding``, and rows of a fixed length are made
in ``packed``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tisslm.datasets.held_file import FileArray, unmapped
from tisslm.datasets.joined import SpanArray, span
from tisslm.datasets.offsets import SCAN_OFFSETS, FileOffsets
from tisslm.datasets.tokens import check_ids, owned_bytes
from tisslm.errors import DataError, ShapeError

__all__ = [
    "Document",
    "Source",
    "TokenDocuments",
    "check_tokens",
]

IntArray = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Document:
    """A text that stands alone: nothing in it is predicted from another document.

    Attributes
    ----------
    pieces : tuple of (str, bool)
        The text in pieces, each with whether its tokens are targets; those of a piece with False
        are only read (a prompt).
    where : str
        The name in messages, such as "corpus.jsonl, line 7".
    messages : tuple of mapping, optional
        A conversation, each message with ``role`` and ``content``: its ids are those of the
        tokenizer's chat template, and ``pieces`` only what a tokenizer may learn from.
    """

    pieces: tuple[tuple[str, bool], ...]
    where: str
    messages: tuple[Mapping[str, str], ...] | None = None

    @property
    def text(self) -> str:
        """The whole text: all pieces joined."""
        return "".join(text for text, _ in self.pieces)


class Source(Protocol):
    """The files that arrays are read from."""

    def check(self) -> None:
        """Raise ``DataError`` if a file was changed since it was opened."""


class TokenDocuments:
    """Documents as token ids, joined in one array.

    Parameters
    ----------
    tokens : integer array of shape (n,)
        The ids, in memory or in files; not copied.
    offsets : int64 array or FileOffsets of shape (m + 1,)
        Document i is ``tokens[offsets[i] : offsets[i + 1]]``, at least one token.
    learn : bool or uint8 array of shape (n,), optional
        Whether each token may be a target; all may if left out.
    vocab_size : int, optional
        Ids must be below it; by default, the largest id plus one.
    checked : bool
        Whether the ids are known to be below ``vocab_size``; reading them may take minutes.
    where : str
        What messages begin with.
    source : object, optional
        Where the arrays are read from: its ``check()`` raises ``DataError`` if a file has changed.

    Raises
    ------
    ShapeError
        If an array has another type or shape, or the lengths do not fit each other.
    DataError
        If there is no token, an offset is wrong, or an id is negative or not below
        ``vocab_size``.
    """

    def __init__(
        self,
        tokens: IntArray | SpanArray,
        offsets: IntArray | FileOffsets,
        learn: NDArray[Any] | SpanArray | None = None,
        vocab_size: int | None = None,
        *,
        checked: bool = False,
        where: str = "documents",
        source: Source | None = None,
    ) -> None:
        self.where = where
        self.source = source
        self.tokens = check_tokens(tokens, where)
        self.offsets = check_offsets(offsets, len(tokens), where)
        self.learn = None if learn is None else check_learn(learn, len(tokens), where)
        if checked and vocab_size is not None:
            self.vocab_size = vocab_size
            return
        try:
            self.vocab_size = check_ids(self.tokens, vocab_size)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        """The bytes of the arrays that are in memory."""
        arrays = (self.tokens, self.offsets, self.learn)
        return sum(owned_bytes(array) for array in arrays if array is not None)

    def document(self, i: int) -> tuple[IntArray, NDArray[Any]]:
        """Return the ids of document ``i`` and whether each may be a target, as views."""
        if not 0 <= i < len(self):
            raise DataError(f"{self.where}: expected a document in range({len(self)}), got {i}")
        part = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        tokens = self.tokens[part]
        return tokens, np.ones(len(tokens), bool) if self.learn is None else self.learn[part]

    def check_source(self) -> None:
        """Raise ``DataError`` if a file that is read was changed since it was opened."""
        if self.source is not None:
            self.source.check()

    def part(self, first: int, last: int) -> TokenDocuments:
        """Return documents ``first`` to ``last - 1``, as views."""
        if not 0 <= first < last <= len(self):
            raise DataError(
                f"{self.where}: expected a part of range({len(self)}) with at least one document, "
                f"got {first} to {last}"
            )
        begin, end = int(self.offsets[first]), int(self.offsets[last])
        found = copy.copy(self)  # what was checked once is not read again
        found.tokens = span(self.tokens, begin, end)
        found.offsets = self.offsets[first : last + 1] - begin
        found.learn = None if self.learn is None else span(self.learn, begin, end)
        return found


# --------------------------------------------------------------------------- checks


def check_tokens(tokens: Any, where: str) -> Any:
    """Raise an error unless the tokens are a flat array of integers that is not empty."""
    array = tokens if isinstance(tokens, SpanArray) else unmapped(tokens)
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
        raise ShapeError(
            f"{where}: expected a one-dimensional array of integer token ids, got {array.dtype} "
            f"of shape {array.shape}; flatten and convert it"
        )
    if not len(array):
        raise DataError(f"{where}: expected at least one token, got none; give more text")
    return array


def check_offsets(offsets: Any, n_tokens: int, where: str) -> Any:
    """Raise an error unless the offsets rise from 0 to the number of tokens."""
    array = offsets if isinstance(offsets, FileOffsets) else unmapped(offsets)
    if array.ndim != 1 or array.dtype != np.int64 or len(array) < 2:
        raise ShapeError(
            f"{where}: expected offsets as an int64 array of shape (m + 1,) with m >= 1, got "
            f"{array.dtype} of shape {array.shape}"
        )
    if isinstance(array, FileArray):
        array = FileOffsets(array)
    if array[0] != 0 or array[-1] != n_tokens:
        raise DataError(
            f"{where}: expected offsets from 0 to the {n_tokens} tokens, got {array[0]} to "
            f"{array[-1]}; make the tokens and their offsets together"
        )
    for start in range(0, len(array) - 1, SCAN_OFFSETS):
        part = array[start : start + SCAN_OFFSETS + 1]
        falling = np.flatnonzero(part[1:] <= part[:-1])  # a difference may be beyond 64 bits
        if falling.size:
            i = start + int(falling[0])
            raise DataError(
                f"{where}: expected rising offsets, got {array[i]} and then {array[i + 1]} for "
                f"document {i}; leave out documents without tokens"
            )
    return array


def check_learn(learn: Any, n_tokens: int, where: str) -> Any:
    """Raise an error for a mask of the wrong type or length."""
    array = learn if isinstance(learn, SpanArray) else unmapped(learn)
    if array.shape != (n_tokens,) or array.dtype not in (np.bool_, np.uint8):
        raise ShapeError(
            f"{where}: expected learn as a bool or uint8 array of shape ({n_tokens},), got "
            f"{array.dtype} of shape {array.shape}"
        )
    return array
