"""Reading the token files of nanoGPT and llm.c.

References
----------
nanoGPT, ``data/*/prepare.py``; llm.c, ``dev/data/data_common.py``.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tisslm.datasets.documents import TokenDocuments
from tisslm.datasets.held_file import FileArray, HeldFile
from tisslm.datasets.sources.options import ReadOptions
from tisslm.datasets.sources.streams import open_regular
from tisslm.errors import DataError
from tisslm.system.safe_files import Refusal, RegularFile, show
from tisslm.system.strict_json import parse_json

__all__ = ["is_llmc", "is_nanogpt", "llmc_tokens", "nanogpt_tokens"]

#: Tokens that are searched for ends of documents at a time.
SCAN_TOKENS = 2**22

HEADER_BYTES = 256 * 4
META_BYTES = 2**24

_BAD_META = Refusal(
    DataError, 'expected {"vocab_size": an integer >= 1}', "mend the file or remove it"
)


class _Variant(NamedTuple):
    """A variant of llm.c's files: version, type of a token, and the tokenizer's two numbers."""

    version: int
    dtype: str
    vocab_size: int
    end_of_text: int


#: By magic number: tokens of GPT-2, tokens of Llama 3.
VARIANTS = {
    20240520: _Variant(1, "<u2", 50257, 50256),
    20240801: _Variant(7, "<u4", 128256, 128000),
}
EVALUATION_MAGIC = 20240522


def is_nanogpt(path: Path) -> bool:
    """Return True for any ``.bin`` file: nanoGPT's files have no header."""
    return path.suffix == ".bin" and path.is_file()


def is_llmc(path: Path) -> bool:
    """Return True if a ``.bin`` file begins with one of llm.c's magic numbers."""
    if not is_nanogpt(path):
        return False
    with open_regular(path) as file:
        magic = int.from_bytes(file.read(4), "little")
    return magic in VARIANTS or magic == EVALUATION_MAGIC


def nanogpt_tokens(path: Path, options: ReadOptions) -> TokenDocuments:
    """Open a nanoGPT file: uint16 ids, little-endian, without a header.

    The vocabulary size is that of ``options``, or ``vocab_size`` of a ``meta.json`` beside the
    file, or else the largest id plus one. A ``meta.pkl`` is never read: such a file can run
    programs.

    Raises
    ------
    DataError
        If the file cannot be read, its size is odd, or an id is not in the vocabulary.
    """
    held = _open(path)
    if held.size % 2:
        raise DataError(
            f"{path}: expected uint16 token ids, got an odd number of bytes ({held.size}); copy "
            "the file again"
        )
    vocab_size = options.vocab_size or _meta_vocab_size(path)
    return _documents(held, FileArray(held, "<u2"), vocab_size, options.end_of_text)


def llmc_tokens(path: Path, options: ReadOptions) -> TokenDocuments:
    """Open an llm.c file: 256 int32 (magic, version, number of tokens), then the ids.

    Raises
    ------
    DataError
        If the file cannot be read, is of another version, has another size than its header
        says, or an id is not in the vocabulary.
    """
    held = _open(path)
    if held.size < HEADER_BYTES:
        raise DataError(
            f"{path}: expected the {HEADER_BYTES} bytes of llm.c's header, got {held.size}; copy "
            "the file again"
        )
    magic, version, count = FileArray(held, "<i4", length=3)[:].tolist()
    variant = VARIANTS.get(magic)
    if variant is None:
        what = "a multiple-choice evaluation" if magic == EVALUATION_MAGIC else f"magic {magic}"
        known = " or ".join(map(str, VARIANTS))
        raise DataError(f"{path}: expected llm.c's tokens (magic {known}), got {what}")
    if version != variant.version:
        raise DataError(
            f"{path}: expected version {variant.version} of llm.c's tokens (magic {magic}), got "
            f"{version}; write the file again"
        )
    size = HEADER_BYTES + max(count, 0) * np.dtype(variant.dtype).itemsize
    if count < 1 or size != held.size:
        raise DataError(
            f"{path}: expected {size} bytes for the {count} tokens that the header says, got "
            f"{held.size}; copy the file again"
        )
    tokens = FileArray(held, variant.dtype, HEADER_BYTES, count)
    end = variant.end_of_text if options.end_of_text is None else options.end_of_text
    return _documents(held, tokens, options.vocab_size or variant.vocab_size, end)


def _open(path: Path) -> HeldFile:
    """Open a file of tokens, which must not be empty."""
    held = HeldFile(path)
    if not held.size:
        raise DataError(f"{path}: expected token ids, got an empty file")
    return held


def _documents(
    held: HeldFile, tokens: FileArray, vocab_size: int | None, end_of_text: int | None
) -> TokenDocuments:
    """Cut tokens after each end of text; without that id, they are one document."""
    ends = [np.zeros(1, np.int64)]
    for start in range(0, len(tokens), SCAN_TOKENS) if end_of_text is not None else ():
        part = tokens[start : start + SCAN_TOKENS]
        ends.append(np.flatnonzero(part == end_of_text) + (start + 1))
    if ends[-1].size == 0 or ends[-1][-1] != len(tokens):
        ends.append(np.array([len(tokens)]))
    return TokenDocuments(
        tokens, np.concatenate(ends), None, vocab_size, where=str(held.path), source=held
    )


def _meta_vocab_size(path: Path) -> int | None:
    """Return the vocabulary size in ``meta.json``, None without that file."""
    meta = path.with_name("meta.json")
    if not os.path.lexists(meta):
        if path.with_name("meta.pkl").is_file():
            warnings.warn(
                f"{path.with_name('meta.pkl')} is never read, because reading it could run "
                "any program; the vocabulary is the largest id plus one. Set data.vocab_size, or "
                'write {"vocab_size": ...} to meta.json',
                stacklevel=2,
            )
        return None
    with RegularFile(meta, _BAD_META, follow=True) as file:
        size = parse_json(file.read(META_BYTES), meta, _BAD_META).get("vocab_size")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise _BAD_META(meta, f"got {show(size)}")
    return size
