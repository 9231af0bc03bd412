"""Writing one split of token shards as its tokens come: ids, document offsets, learn mask.

The folder is completed, with its manifest, in ``folder``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from tisslm.datasets.shard_format import (
    INDEX_BYTES,
    SplitRecord,
    header,
    index_header,
)
from tisslm.errors import DataError

__all__ = ["SplitWriter"]

BUFFER = 2**20  # bytes that a file collects before it asks the system
KEPT = 2**16  # offsets, and tokens of the mask, that are collected


@final
class SplitWriter:
    """A writer of one split, whose memory does not grow with the split.

    Parameters
    ----------
    folder : Path
    name : str
        The prefix of the file names.
    dtype : numpy.dtype
        The type of the ids in the files.
    vocab_size : int
        Ids must be below it.
    shard_tokens : int
        Ids in each file but the last.
    """

    def __init__(
        self, folder: Path, name: str, dtype: np.dtype[Any], vocab_size: int, shard_tokens: int
    ) -> None:
        self._folder, self._name, self._dtype = folder, name, dtype
        self._vocab_size, self._shard_tokens = vocab_size, shard_tokens
        self._file: BinaryIO | None = None
        self._in_file = 0
        self._largest = 0
        self._document_start = 0
        self._index = _OffsetFile(folder / f"{name}.idx")
        self._mask = _MaskFile(folder / f"{name}.mask")
        self.files: list[str] = []
        self.tokens = 0
        self.documents = 0

    def add(self, ids: NDArray[Any], learn: bool) -> None:
        """Append tokens to the current document.

        Parameters
        ----------
        ids : integer array of shape (n,)
        learn : bool
            Whether the tokens may be targets.

        Raises
        ------
        DataError
            If an id is not in the vocabulary.
        """
        if not len(ids):
            return
        largest = int(ids.max())
        if largest >= self._vocab_size or (ids.dtype.kind == "i" and int(ids.min()) < 0):
            wrong = largest if largest >= self._vocab_size else int(ids.min())
            raise DataError(
                f"the tokenizer returned id {wrong}, which is not in range({self._vocab_size}), "
                "its vocabulary; correct the tokenizer"
            )
        self._largest = max(self._largest, largest)
        self._write(ids.astype(self._dtype, copy=False))
        self._mask.add(len(ids), learn)
        self.tokens += len(ids)

    def end_document(self) -> int:
        """End the current document and return its number of tokens; an empty one is not counted."""
        length = self.tokens - self._document_start
        if length:
            self._document_start = self.tokens
            self.documents += 1
            self._index.add(self.tokens)
        return length

    def finish(self) -> SplitRecord:
        """Complete the files and return their record for the manifest."""
        self._end_file()
        self._index.finish()
        masked = self._mask.finish()
        return SplitRecord(
            documents=self.documents,
            tokens=self.tokens,
            targets=self.tokens - masked,
            largest_id=self._largest,
            shard_tokens=self._shard_tokens,
            files=self.files,
            index=self._index.path.name,
            mask=self._mask.path.name if masked else None,
        )

    def close(self) -> None:
        """Close the files without completing them, after an error."""
        for file in (self._file, self._index.file, self._mask.file):
            if file is not None:
                file.close()

    def _write(self, ids: NDArray[Any]) -> None:
        """Write ids, starting new files as needed."""
        while len(ids):
            if self._file is None or self._in_file == self._shard_tokens:
                self._end_file()
                self._begin_file()
            part = ids[: self._shard_tokens - self._in_file]
            if self._file is not None:
                self._file.write(part.data)
            self._in_file += len(part)
            ids = ids[len(part) :]

    def _begin_file(self) -> None:
        self.files.append(f"{self._name}-{len(self.files):05d}.bin")
        self._file = (self._folder / self.files[-1]).open("xb", buffering=BUFFER)
        self._file.write(header(self._dtype.name, 0))
        self._in_file = 0

    def _end_file(self) -> None:
        """Write the final number of ids into the header, and close the file."""
        if self._file is not None:
            self._file.seek(0)
            self._file.write(header(self._dtype.name, self._in_file))
            self._file.close()
            self._file = None


class _OffsetFile:
    """The file of document offsets: 0, then the end of each document."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: BinaryIO = path.open("xb", buffering=BUFFER)
        self.file.write(bytes(INDEX_BYTES))
        self._offsets = [0]
        self._written = 0

    def add(self, offset: int) -> None:
        """Append an offset."""
        self._offsets.append(offset)
        if len(self._offsets) >= KEPT:
            self._flush()

    def _flush(self) -> None:
        self.file.write(np.array(self._offsets, dtype="<i8").data)
        self._written += len(self._offsets)
        self._offsets.clear()

    def finish(self) -> None:
        """Write the remaining offsets, and their number."""
        self._flush()
        self.file.seek(0)
        self.file.write(index_header(self._written))
        self.file.close()


class _MaskFile:
    """The file with one bit per token; created when the first token is no target."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: BinaryIO | None = None
        self._tokens = 0  # before the pending ones
        self._masked = 0
        self._pending: list[NDArray[np.bool_]] = []
        self._n_pending = 0

    def add(self, count: int, learn: bool) -> None:
        """Append ``count`` equal bits."""
        if self.file is None:
            if learn:
                self._tokens += count
                return
            self._begin()
        self._masked += 0 if learn else count
        self._pending.append(np.full(count, learn))
        self._n_pending += count
        if self._n_pending >= KEPT:
            self._flush()

    def _begin(self) -> None:
        """Write ones for all tokens so far, except for the bits of an incomplete byte."""
        self.file = self.path.open("xb", buffering=BUFFER)
        whole, rest = divmod(self._tokens, 8)
        for start in range(0, whole, BUFFER):
            self.file.write(b"\xff" * min(BUFFER, whole - start))
        self._pending, self._n_pending = [np.ones(rest, bool)], rest

    def _flush(self, *, last: bool = False) -> None:
        bits = np.concatenate(self._pending)
        cut = len(bits) if last else len(bits) // 8 * 8
        if self.file is not None:
            self.file.write(np.packbits(bits[:cut], bitorder="little").data)
        self._pending, self._n_pending = [bits[cut:]], len(bits) - cut

    def finish(self) -> int:
        """Write the last byte and return how many tokens are no targets."""
        if self.file is not None:
            self._flush(last=True)
            self.file.close()
        return self._masked
