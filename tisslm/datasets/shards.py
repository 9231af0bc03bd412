"""Token shards: a folder written by ``tisslm tokenize``, of which only the rows needed are read.

The format is described in ``shard_format``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tisslm.datasets.documents import TokenDocuments
from tisslm.datasets.held_file import FileArray, HeldFile, HeldFiles
from tisslm.datasets.joined import BitArray, JoinedArray
from tisslm.datasets.offsets import FileOffsets
from tisslm.datasets.shard_checks import verify_shards
from tisslm.datasets.shard_format import (
    DAMAGED,
    HEADER_BYTES,
    HEADER_INTS,
    INDEX_BYTES,
    MANIFEST,
    SplitRecord,
    check_header,
    damaged,
    index_header,
    read_manifest,
    read_object,
    state_digest,
)
from tisslm.errors import DataError

__all__ = [
    "TokenShards",
    "is_shards",
    "shard_documents",
    "shard_splits",
    "shards_tokenizer",
]

#: Files of the tokenizer: as other libraries read it, or its name and state.
BPE_FILE = "tokenizer.json"
STATE_FILE = "tokenizer_state.json"
INDEX_SUFFIX = ".idx"


def is_shards(path: str | os.PathLike[str]) -> bool:
    """Return True for a folder of token shards, or the index of one of its splits."""
    path = Path(path)
    folder = path.parent if path.suffix == INDEX_SUFFIX else path
    return (folder / MANIFEST).is_file()


def shard_splits(folder: Path) -> tuple[Path, Path | None]:
    """Return the indexes of the training split and of the validation split, None without one."""
    splits = read_manifest(folder).splits
    valid = splits.get("valid")
    train = splits.get("train")
    if train is None:
        raise damaged(folder / MANIFEST, "there is no split to train on")
    return folder / train.index, folder / valid.index if valid else None


def shards_tokenizer(path: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """Return name and state of the tokenizer that made the ids of a folder, or of its split."""
    path = Path(path)
    shards = TokenShards(path.parent if path.suffix == INDEX_SUFFIX else path)
    return shards.tokenizer_name, shards.tokenizer_state


def shard_documents(
    path: str | os.PathLike[str], vocab_size: int | None = None, *, verify: bool = False
) -> TokenDocuments:
    """Return the documents of a folder's split ``train``, or of the split whose index is named.

    Parameters
    ----------
    path : str or path-like
        ``shards`` or ``shards/valid.idx``.
    vocab_size : int, optional
        Ids must be below it.
    verify : bool
        Whether to read every file of the split and compare its SHA-256.

    Raises
    ------
    DataError
        If the shards have changed since they were written, or have ids that are too large.
    """
    path = Path(path)
    named = path.suffix == INDEX_SUFFIX
    shards = TokenShards(path.parent if named else path)
    split = path.stem if named else "train"
    if verify:
        shards.verify(split)
    documents = shards.documents(split)
    largest = shards.manifest.splits[split].largest_id
    if vocab_size is not None and largest >= vocab_size:
        raise DataError(
            f"{path}: token id {largest} is not in range({vocab_size}), the vocabulary; use the "
            f"tokenizer that made the tokens ({shards.tokenizer_name}), or make them again"
        )
    return documents


class TokenShards:
    """A folder of token shards.

    Opening it compares every file's size with the manifest, every header with what it must be, and
    reads the tokenizer's state; the ids are not read. ``verify`` compares the checksums, too.

    Parameters
    ----------
    path : str or path-like
        The folder.
    verify : bool
        Whether to read every file and compare its SHA-256.

    Attributes
    ----------
    path : Path
    manifest : Manifest
    splits : tuple of str
        ``"train"``, and ``"valid"`` where there is one.

    Raises
    ------
    DataError
        If it is no folder of token shards, or has changed since it was written.
    """

    def __init__(self, path: str | os.PathLike[str], *, verify: bool = False) -> None:
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self.splits = tuple(self.manifest.splits)
        for name in self.manifest.files:
            self._held(name)
        for split in self.manifest.splits.values():
            self._check_split(split, self._held)
        self.tokenizer_state = self._read_tokenizer()
        if verify:
            self.verify()

    @property
    def vocab_size(self) -> int:
        """The size of the vocabulary; every id is below it."""
        return self.manifest.tokenizer.vocab_size

    @property
    def tokenizer_name(self) -> str:
        """The registered name of the tokenizer that made the ids."""
        return self.manifest.tokenizer.name

    def documents(self, split: str = "train") -> TokenDocuments:
        """Return the documents of a split, without reading their ids.

        Raises
        ------
        DataError
            If there is no such split, or its index is not monotone.
        """
        record = self.manifest.splits.get(split)
        if record is None:
            raise DataError(
                f"{self.path}: expected a split {split!r}, got {', '.join(self.splits)}; make the "
                "shards with --valid-fraction"
            )
        held = {name: self._held(name) for name in record.names}
        self._check_split(record, held.__getitem__)  # the names may lead to other files by now
        dtype = np.dtype(self.manifest.dtype).newbyteorder("<")
        learn = None
        if record.mask is not None:
            learn = BitArray(FileArray(held[record.mask], np.uint8), 0, record.tokens)
        return TokenDocuments(
            JoinedArray([FileArray(held[name], dtype, HEADER_BYTES) for name in record.files]),
            FileOffsets(FileArray(held[record.index], "<i8", INDEX_BYTES)),
            learn,
            self.vocab_size,
            checked=True,
            where=f"{self.path}, {split}",
            source=HeldFiles(list(held.values())),
        )

    def verify(self, split: str = "") -> None:
        """Read every file of a split, or of all of them, and compare its SHA-256.

        Raises
        ------
        DataError
            If a file differs.
        """
        record = self.manifest.splits.get(split)
        names = None if record is None else record.names
        for name, problem in verify_shards(self.path, names):
            if problem:
                raise damaged(self.path / name, problem)

    def _held(self, name: str) -> HeldFile:
        """Open a file, which must have the size that the manifest says."""
        file = HeldFile(self.path / name, DAMAGED)
        expected = self.manifest.files[name].bytes
        if file.size != expected:
            raise damaged(self.path / name, f"{file.size} bytes, its manifest says {expected}")
        return file

    def _check_split(self, split: SplitRecord, held: Callable[[str], HeldFile]) -> None:
        """Compare the headers and the sizes that follow from the counts.

        Parameters
        ----------
        split : SplitRecord
        held : callable
            Returns the open file of a name.
        """
        width = np.dtype(self.manifest.dtype).itemsize
        for number, name in enumerate(split.files):
            n_tokens = split.tokens_of(number)
            self._check_size(name, HEADER_BYTES + width * n_tokens)
            start = FileArray(held(name), "<i4", length=HEADER_INTS)[:]
            check_header(self.path / name, start, self.manifest.dtype, n_tokens)
        self._check_size(split.index, INDEX_BYTES + 8 * (split.documents + 1))
        start = FileArray(held(split.index), np.uint8, length=INDEX_BYTES)[:]
        if start.tobytes() != index_header(split.documents + 1):
            raise damaged(self.path / split.index, "it does not begin as an index does")
        if split.mask is not None:
            self._check_size(split.mask, -(-split.tokens // 8))
        if split.largest_id >= self.vocab_size:
            raise damaged(
                self.path / MANIFEST, f"id {split.largest_id} of a vocabulary of {self.vocab_size}"
            )

    def _check_size(self, name: str, expected: int) -> None:
        found = self.manifest.files[name].bytes
        if found != expected:
            raise damaged(self.path / name, f"{found} bytes, its counts ask for {expected}")

    def _read_tokenizer(self) -> dict[str, Any]:
        record = self.manifest.tokenizer
        path = self.path / record.file
        content = read_object(path)
        # A tokenizer.json is what other libraries read; ours keeps it as its state.
        state = {"tokenizer": content} if record.file == BPE_FILE else content.get("state")
        if not isinstance(state, dict) or state_digest(record.name, state) != record.sha256:
            raise damaged(path, "it is another tokenizer than the one that made the ids")
        return state
