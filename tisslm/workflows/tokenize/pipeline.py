"""From text to token shards: reading, encoding and writing at the same time, in bounded memory.

One thread reads and cuts the text, one encodes it (the tokenizers library then uses all cores, and
holds no interpreter lock), and the caller's thread writes. A few batches wait between them, so
memory does not grow with the text or with a document.

Files are named in ``folder``; where text may be cut is decided in ``tokenizers.cuts``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Tokenizer
from tisslm.datasets.encoding import BadConversationError, encode_chat
from tisslm.datasets.sources import BadRecords, ReadOptions
from tisslm.datasets.splits import is_held_out
from tisslm.errors import DataError
from tisslm.workflows.tokenize.ahead import ahead
from tisslm.workflows.tokenize.folder import ShardFolder
from tisslm.workflows.tokenize.parts import Part, cut_parts, read_parts
from tisslm.workflows.tokenize.split_writer import SplitWriter

__all__ = ["Tokenized", "encode_parts", "n_bytes", "tokenize"]

#: Characters that are encoded together; more would only take more memory.
BATCH = 2**20
#: Largest number of waiting batches, of text and of ids.
DEPTH = 2

Encoded = list[tuple[Part, NDArray[Any]]]


@dataclass
class Tokenized:
    """The progress of tokenizing.

    Attributes
    ----------
    documents, tokens : int
        Numbers written so far.
    text_bytes : int
        Bytes of the text read so far, in UTF-8.
    seconds : float
        Time since the start.
    """

    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Millions of bytes of text per second."""
        return self.text_bytes / 1e6 / max(self.seconds, 1e-9)


def tokenize(
    paths: Sequence[Path],
    tokenizer: Tokenizer,
    folder: ShardFolder,
    options: ReadOptions,
    *,
    valid_fraction: float = 0.0,
    progress: Callable[[Tokenized], None] = lambda _: None,
) -> Tokenized:
    """Encode the documents of files and folders, and write them to a folder of shards.

    Each document begins with the ids of ``tokenizer.begin`` and ends with the end-of-text token, if
    the tokenizer has these. Documents without a token are left out.

    Parameters
    ----------
    paths : sequence of Path
    tokenizer : Tokenizer
    folder : ShardFolder
        A folder that was entered, and is not finished.
    options : ReadOptions
    valid_fraction : float
        The share of the documents that go to the split ``valid``: those that a run on the text
        would hold out.
    progress : callable
        Called from time to time with the progress.

    Raises
    ------
    ConfigError, DataError
        If a source cannot be read, the tokenizer refuses a text, or a split stays empty.
    """
    done = Tokenized()
    begun = time.monotonic()
    documents = _Documents(folder, tokenizer, valid_fraction, done)
    parts = cut_parts(read_parts(paths, options), tokenizer.find_cut)
    with closing(encode_parts(parts, tokenizer, options.bad)) as batches:
        for batch in batches:
            for part, ids in batch:
                documents.add(part, ids)
            done.seconds = time.monotonic() - begun
            progress(done)
    options.bad.report(", ".join(str(path) for path in paths))
    if not done.documents:
        raise DataError("expected a document with a token in it, got none; give more text")
    if valid_fraction and not documents.has_valid:
        raise DataError(
            f"expected enough documents to set {valid_fraction:g} of them aside, got "
            f"{done.documents}; raise --valid-fraction, or cut the text into documents with "
            "--document-separator"
        )
    done.seconds = time.monotonic() - begun
    return done


def encode_parts(
    parts: Iterable[Part], tokenizer: Tokenizer, bad: BadRecords
) -> Generator[Encoded]:
    """Yield pieces with their ids; reading and encoding have a thread each, and work in batches.

    Parameters
    ----------
    parts : iterable of Part
    tokenizer : Tokenizer
    bad : BadRecords
        What becomes of conversations that the chat template refuses.

    Raises
    ------
    ConfigError
        If there is a conversation, and the tokenizer has no chat template.
    DataError
        If the tokenizer refuses a text; the message says where it is.
    """
    return ahead(_encoded(ahead(_batches(parts), DEPTH), tokenizer, bad), DEPTH)


def _encoded(batches: Any, tokenizer: Tokenizer, bad: BadRecords) -> Iterator[Encoded]:
    with closing(batches):
        for batch in batches:
            texts = [part for part in batch if part.messages is None]
            try:
                ids = iter(tokenizer.encode_batch([part.text for part in texts]))
            except DataError:
                ids = iter([_check_one(part, tokenizer) for part in texts])
            found: Encoded = []
            for part in batch:
                if part.messages is None:
                    found.append((part, next(ids)))
                else:
                    found += _conversation(part, tokenizer, bad)
            yield found


def _conversation(part: Part, tokenizer: Tokenizer, bad: BadRecords) -> Encoded:
    """Return the ids of a conversation in runs that are learned or not, each with its part."""
    try:
        ids, learn = encode_chat(part.messages or (), part.where, tokenizer)
    except BadConversationError as error:
        bad.refuse(str(error))
        return []
    cuts = [0, *(np.flatnonzero(np.diff(learn)) + 1).tolist(), len(ids)]
    found: Encoded = []
    for first, last in pairwise(cuts):
        text = "" if first else part.text  # which is counted once
        run = replace(part, text=text, learn=bool(learn[first:last].any()), ends=last == len(ids))
        found.append((run, ids[first:last]))
    return found


def _check_one(part: Part, tokenizer: Tokenizer) -> NDArray[Any]:
    """Encode a single piece, so that an error says where it is."""
    try:
        return tokenizer.encode_array(part.text)
    except DataError as error:
        raise DataError(f"{part.where}: {error}") from error


def _batches(parts: Iterable[Part]) -> Iterator[list[Part]]:
    batch: list[Part] = []
    size = 0
    for part in parts:
        batch.append(part)
        size += len(part.text) + 1
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Documents:
    """Assembles encoded pieces to documents, and writes each to its split."""

    def __init__(
        self, folder: ShardFolder, tokenizer: Tokenizer, fraction: float, done: Tokenized
    ) -> None:
        self._folder, self._fraction, self._done = folder, fraction, done
        end = tokenizer.end_of_text
        self._begin = np.array(tokenizer.begin, dtype=np.int64)
        self._end = np.array([] if end is None else [end], dtype=np.int64)
        self._writer: SplitWriter | None = None  # of the document that is being written
        self._begins = True  # whether the next piece is the first of a document
        self.has_valid = False

    def add(self, part: Part, ids: NDArray[Any]) -> None:
        """Append a piece; end the document if the piece is its last."""
        self._done.text_bytes += n_bytes(part.text)
        if self._begins and part.messages is None:
            self._write(self._begin, part, learn=False)
        self._write(ids, part, learn=part.learn)
        self._begins = part.ends
        if not part.ends:
            return
        if part.messages is None:  # whose template writes beginning and end itself
            self._write(self._end, part, learn=part.learn)
        if self._writer is not None:
            self._done.tokens += self._writer.end_document()
            self._done.documents += 1
            self._writer = None

    def _write(self, ids: NDArray[Any], part: Part, *, learn: bool) -> None:
        if not len(ids):
            return
        if self._writer is None:
            valid = is_held_out(self._done.documents, self._fraction)
            self.has_valid = self.has_valid or valid
            self._writer = self._folder.split("valid" if valid else "train")
        try:
            self._writer.add(ids, learn)
        except DataError as error:
            raise DataError(f"{part.where}: {error}") from error


def n_bytes(text: str) -> int:
    """Return the length of a text in UTF-8 bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
