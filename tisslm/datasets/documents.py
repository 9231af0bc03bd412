"""Documents: pieces of text with what is to be learned of them, and the same as token ids.

What does not live here: files (``sources``), and rows of a fixed length (``packed``).
"""

from __future__ import annotations

import copy
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Tokenizer
from tisslm.datasets.joined import SpanArray
from tisslm.datasets.tokens import SCAN_TOKENS, check_ids
from tisslm.errors import DataError, ShapeError

__all__ = [
    "Document",
    "DocumentEncoder",
    "Source",
    "TokenDocuments",
    "encode_document",
    "encode_documents",
    "owned_bytes",
]

IntArray = NDArray[Any]

#: Offsets that are looked at together, so that a mapped table is never held whole.
SCAN_OFFSETS = 2**20


@dataclass(frozen=True, slots=True)
class Document:
    """One text that stands alone: nothing in it is predicted from another document.

    Attributes
    ----------
    pieces : tuple of (str, bool)
        The text, cut where it changes whether it is to be learned: the tokens of a piece with
        False are read and are no targets (a prompt).
    where : str
        What messages call it: "corpus.jsonl, line 7".
    """

    pieces: tuple[tuple[str, bool], ...]
    where: str

    @property
    def text(self) -> str:
        """All pieces, one after another."""
        return "".join(text for text, _ in self.pieces)


class Source(Protocol):
    """A file that arrays are mapped from."""

    def check(self) -> None:
        """Raise ``DataError`` if it was changed since it was opened."""


class TokenDocuments:
    """Documents as token ids, one after another in one array.

    Parameters
    ----------
    tokens : integer array of shape (n,)
        In memory or mapped from a file; kept as it is. A ``SpanArray`` of several files is taken
        as checked, because reading it may take minutes.
    offsets : int64 array of shape (m + 1,)
        Document i is ``tokens[offsets[i] : offsets[i + 1]]``, at least one token.
    learn : bool or uint8 array of shape (n,), optional
        Whether a token may be a target; left out, each may.
    vocab_size : int, optional
        Ids must be below it; by default, the largest id plus one.
    where : str
        What messages begin with.
    source : object, optional
        Has ``check()``, which raises ``DataError`` if the file of a mapped array was changed:
        reading what was cut off would end the process.

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
        offsets: IntArray,
        learn: NDArray[Any] | SpanArray | None = None,
        vocab_size: int | None = None,
        *,
        where: str = "documents",
        source: Source | None = None,
    ) -> None:
        self.where = where
        self.source = source
        self.tokens = check_tokens(tokens, where)
        self.offsets = check_offsets(offsets, len(tokens), where)
        self.learn = None if learn is None else check_learn(learn, len(tokens), where)
        if isinstance(tokens, SpanArray) and vocab_size is not None:
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
        """Bytes of memory of the arrays; those mapped from a file take none."""
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
        """Raise ``DataError`` if the file of a mapped array was changed since it was opened."""
        if self.source is not None:
            self.source.check()

    def has_targets(self) -> bool:
        """Return whether any token may be a target."""
        learn = self.learn
        starts = range(0, len(self.tokens), SCAN_TOKENS)
        return learn is None or any(learn[s : s + SCAN_TOKENS].any() for s in starts)

    def part(self, first: int, last: int) -> TokenDocuments:
        """Return documents ``first`` to ``last - 1``, as views."""
        if not 0 <= first < last <= len(self):
            raise DataError(
                f"{self.where}: expected a part of range({len(self)}) with at least one document, "
                f"got {first} to {last}"
            )
        begin, end = int(self.offsets[first]), int(self.offsets[last])
        found = copy.copy(self)  # what was checked once is not read again
        found.tokens = self.tokens[begin:end]
        found.offsets = self.offsets[first : last + 1] - begin
        found.learn = None if self.learn is None else self.learn[begin:end]
        return found


def _span(array: Any, begin: int, end: int) -> Any:
    """Return a span of an array without reading it."""
    return array.span(begin, end) if isinstance(array, SpanArray) else array[begin:end]


# --------------------------------------------------------------------------- from text to ids


def encode_document(
    document: Document, tokenizer: Tokenizer, *, mask_prompt: bool = True, ended: bool = True
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Turn one document into token ids, ended by the tokenizer's end of text if it has one.

    Each piece is encoded by itself, so that no token belongs to two.

    Parameters
    ----------
    document : Document
    tokenizer : Tokenizer
    mask_prompt : bool
        False makes targets of all pieces.
    ended : bool
        False leaves out the end of text.

    Returns
    -------
    ids : integer array of shape (n,)
    learn : bool array of shape (n,)
        Whether each may be a target. The end of text is one if the last piece is.

    Raises
    ------
    DataError
        If the tokenizer refuses the text; the message says where it is.
    """
    ids: list[IntArray] = []
    learn: list[NDArray[np.bool_]] = []
    try:
        for text, target in document.pieces:
            piece = tokenizer.encode_array(text)
            ids.append(piece)
            learn.append(np.full(len(piece), target or not mask_prompt))
    except DataError as error:
        raise DataError(f"{document.where}: {error}") from error
    end = tokenizer.end_of_text if ended else None
    if end is not None:
        ids.append(np.array([end], dtype=np.min_scalar_type(end)))
        learn.append(np.array([not mask_prompt or document.pieces[-1][1]]))
    return np.concatenate(ids), np.concatenate(learn)


def encode_documents(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    mask_prompt: bool = True,
    where: str = "documents",
) -> TokenDocuments:
    """Turn documents into token ids in memory: 1, 2 or 4 bytes a token by the vocabulary.

    Documents without a token are left out.

    Parameters
    ----------
    documents : iterable of Document
    tokenizer : Tokenizer
    mask_prompt : bool
        False makes targets of all pieces.
    where : str
        What messages begin with.

    Raises
    ------
    DataError
        If the tokenizer refuses a text, or there is no token at all.
    """
    encoder = DocumentEncoder(tokenizer, mask_prompt=mask_prompt)
    for document in documents:
        encoder.add(document)
    return encoder.finish(where)


class DocumentEncoder:
    """Turns documents into token ids one by one, and gives them together at the end.

    Parameters
    ----------
    tokenizer : Tokenizer
    mask_prompt : bool
        False makes targets of all pieces.
    ended : bool
        False leaves out the end of text.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, mask_prompt: bool = True, ended: bool = True
    ) -> None:
        self.tokenizer, self.mask_prompt, self.ended = tokenizer, mask_prompt, ended
        self._tokens = _Growing(np.min_scalar_type(tokenizer.vocab_size - 1))
        self._offsets = _Growing(np.dtype(np.int64))
        self._offsets.extend([0])
        self._learn: _Growing | None = None  # from the first token on that is none

    def add(self, document: Document) -> None:
        """Append a document; one without a token is left out."""
        ids, learn = encode_document(
            document, self.tokenizer, mask_prompt=self.mask_prompt, ended=self.ended
        )
        if not len(ids):
            return
        if self._learn is None and not learn.all():
            self._learn = _Growing(np.dtype(bool))
            self._learn.extend(np.ones(self._tokens.size, bool))
        if self._learn is not None:
            self._learn.extend(learn)
        self._tokens.extend(ids)
        self._offsets.extend([self._tokens.size])

    def __len__(self) -> int:
        return self._offsets.size - 1

    def finish(self, where: str) -> TokenDocuments:
        """Return all documents; nothing can be added after.

        Raises
        ------
        DataError
            If there is no token.
        """
        tokens = self._tokens.taken()
        learn = None if self._learn is None else self._learn.taken()
        check_tokens(tokens, where)
        return TokenDocuments(
            tokens, self._offsets.taken(), learn, self.tokenizer.vocab_size, where=where
        )


class _Growing:
    """A flat array that grows at its end, in place where the system can (a large one's pages)."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._array = np.empty(1024, dtype)
        self.size = 0

    def extend(self, values: NDArray[Any] | Sequence[int]) -> None:
        """Append values, which must fit the type."""
        size = self.size + len(values)
        if size > len(self._array):
            self._array.resize(max(size, len(self._array) * 3 // 2), refcheck=False)
        self._array[self.size : size] = values
        self.size = size

    def taken(self) -> NDArray[Any]:
        """Return the array at its length; nothing can be appended after."""
        self._array.resize(self.size, refcheck=False)
        return self._array


# --------------------------------------------------------------------------- checks


def owned_bytes(array: NDArray[Any]) -> int:
    """Return the bytes of an array, 0 for one that is mapped from a file."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return 0 if isinstance(owner, mmap.mmap) else array.nbytes


def check_tokens(tokens: Any, where: str) -> Any:
    """Refuse what is not a flat array of integers, or is empty."""
    array = tokens if isinstance(tokens, SpanArray) else np.asarray(tokens)
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
        raise ShapeError(
            f"{where}: expected a one-dimensional array of integer token ids, got {array.dtype} "
            f"of shape {array.shape}; flatten and convert it"
        )
    if not len(array):
        raise DataError(f"{where}: expected at least one token, got none; give more text")
    return array


def check_offsets(offsets: Any, n_tokens: int, where: str) -> NDArray[np.int64]:
    """Refuse offsets that do not rise from 0 to the number of tokens."""
    array = np.asarray(offsets)
    if array.ndim != 1 or array.dtype != np.int64 or len(array) < 2:
        raise ShapeError(
            f"{where}: expected offsets as an int64 array of shape (m + 1,) with m >= 1, got "
            f"{array.dtype} of shape {array.shape}"
        )
    if array[0] != 0 or array[-1] != n_tokens:
        raise DataError(
            f"{where}: expected offsets from 0 to the {n_tokens} tokens, got {array[0]} to "
            f"{array[-1]}; make the tokens and their offsets together"
        )
    for start in range(0, len(array) - 1, SCAN_OFFSETS):
        falling = np.flatnonzero(np.diff(array[start : start + SCAN_OFFSETS + 1]) <= 0)
        if falling.size:
            i = start + int(falling[0])
            raise DataError(
                f"{where}: expected rising offsets, got {array[i]} and then {array[i + 1]} for "
                f"document {i}; leave out documents without tokens"
            )
    return array


def check_learn(learn: Any, n_tokens: int, where: str) -> Any:
    """Refuse a mask of another type or length."""
    array = learn if isinstance(learn, SpanArray) else np.asarray(learn)
    if array.shape != (n_tokens,) or array.dtype not in (np.bool_, np.uint8):
        raise ShapeError(
            f"{where}: expected learn as a bool or uint8 array of shape ({n_tokens},), got "
            f"{array.dtype} of shape {array.shape}"
        )
    return array
