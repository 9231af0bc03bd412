"""The table of data formats, and finding the format of a path.

A format gives documents of text or ready tokens; a new one is one more line of ``FORMATS``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from tisslm.datasets.documents import Document, TokenDocuments
from tisslm.datasets.shards import is_shards, shard_documents, shard_splits, shards_tokenizer
from tisslm.datasets.sources.jsonl import jsonl_documents, jsonl_records
from tisslm.datasets.sources.options import Format, ReadOptions
from tisslm.datasets.sources.text import text_documents
from tisslm.datasets.sources.token_files import (
    is_llmc,
    is_nanogpt,
    llmc_tokens,
    nanogpt_tokens,
)
from tisslm.errors import ConfigError, DataError

__all__ = ["FORMATS", "find_format", "read_documents", "read_tokens", "split_files"]


def read_documents(
    path: str | PathLike[str],
    *,
    format: str = "auto",  # noqa: A002
    options: ReadOptions | None = None,
) -> Iterator[Document]:
    """Yield the documents of a file or folder one by one, always in the same order.

    Parameters
    ----------
    path : str or path-like
    format : str
        The name of a format of text, or "auto" to find it by the path.
    options : ReadOptions, optional

    Raises
    ------
    ConfigError
        If there is no format of this name.
    DataError
        If the path cannot be read, has ready tokens instead of text, or no good record.
    """
    options = ReadOptions() if options is None else options
    found = find_format(path, format, options.formats)
    if found.documents is None:
        raise DataError(
            f"{path}: expected text, got {found.what}; name a file of text or JSON lines"
        )
    n_documents = 0
    for document in found.documents(Path(path), options):
        n_documents += 1
        yield document
    if not n_documents:
        raise DataError(f"{path}: expected a document, got none; {options.bad.first or 'add one'}")
    options.bad.report(str(path))


def read_tokens(
    path: str | PathLike[str],
    *,
    format: str = "auto",  # noqa: A002
    options: ReadOptions | None = None,
) -> TokenDocuments:
    """Return the documents of a file or folder of ready tokens; they stay on the disk.

    Parameters
    ----------
    path : str or path-like
    format : str
        The name of a format of tokens, or "auto" to find it by the path.
    options : ReadOptions, optional

    Raises
    ------
    ConfigError
        If there is no format of this name.
    DataError
        If the path cannot be read, has text instead of tokens, or is damaged.
    """
    options = ReadOptions() if options is None else options
    found = find_format(path, format, options.formats)
    if found.tokens is None:
        raise DataError(f"{path}: expected token ids, got {found.what}; tokenize it first")
    return found.tokens(Path(path), options)


def find_format(
    path: str | PathLike[str], name: str = "auto", formats: tuple[Format, ...] = ()
) -> Format:
    """Return the format of a path: one of plugins (``formats``), or a built-in one.

    Raises
    ------
    ConfigError
        If there is no format of this name.
    DataError
        If nothing is there, or it is a file of a kind that is never read.
    """
    table = (*formats, *FORMATS)
    known = [entry.name for entry in table]
    if name != "auto" and name not in known:
        raise ConfigError(
            f'data.format: expected "auto" or one of {", ".join(known)}, got "{name}"'
        )
    path = Path(path)
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder; give the path of a text, JSON lines or tokens"
        )
    for entry in table:
        if entry.name == name or (name == "auto" and entry.recognizes(path)):
            return entry
    raise DataError(f"{path}: {advice(path)}")


def advice(path: Path) -> str:
    """Return advice for a file of a kind that is not read."""
    return NOT_READ[path.suffix]


# --------------------------------------------------------------------------- folders


def split_files(path: str | PathLike[str]) -> tuple[Path, Path | None]:
    """Return the training path and the validation path, if the names of files tell them apart.

    In a folder these are ``train.jsonl`` and ``valid.jsonl`` (also ``val`` or ``validation``, also
    ``.gz`` or ``.zst``), or ``train.bin`` and ``val.bin``; in token shards they are the indexes of
    the splits. Beside a ``.bin`` file with "train" in its name, it is the file with "val" instead.
    Any other path is returned unchanged, with None.
    """
    given = Path(path)
    if given.is_dir() and is_shards(given):
        return shard_splits(given)
    for ending in SPLIT_ENDINGS if given.is_dir() else ():
        train = given / f"train{ending}"
        if train.is_file():
            names = (given / f"{name}{ending}" for name in ("valid", "val", "validation"))
            return train, next((file for file in names if file.is_file()), None)
    if given.suffix == ".bin" and "train" in given.name:
        valid = given.with_name("val".join(given.name.rsplit("train", 1)))
        return given, valid if valid.is_file() else None
    return given, None


def folder_documents(path: Path, options: ReadOptions) -> Iterator[Document]:
    """Yield the documents of all files below a folder, in the order of their paths."""
    for file, found in folder_files(path, options):
        if found.documents is not None:
            yield from found.documents(file, options)


def folder_files(path: Path, options: ReadOptions) -> Iterator[tuple[Path, Format]]:
    """Yield every file below a folder with its format, in the order of their paths.

    Files and folders whose name begins with a dot are skipped; a file that is no text counts as a
    bad record.
    """
    files = 0
    if not path.is_dir():
        raise DataError(f"{path}: expected a folder, got a file; leave the format out to read it")
    for folder, names, inside in os.walk(path):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(name for name in inside if not name.startswith(".")):
            file = Path(folder, name)
            files += 1
            try:
                found = find_format(file, formats=options.formats)
                if found.documents is None:
                    raise DataError(f"{file}: expected text, got {found.what}; move it elsewhere")
            except DataError as error:
                options.bad.refuse(str(error))
                continue
            yield file, found
    if not files:
        raise DataError(f"{path}: expected a folder with files in it, got an empty one")


# --------------------------------------------------------------------------- the table


def open_shards(path: Path, options: ReadOptions) -> TokenDocuments:
    """Open a split of token shards."""
    return shard_documents(path, options.vocab_size, verify=options.verify)


JSONL = (".jsonl", ".jsonl.gz", ".jsonl.zst")
SPLIT_ENDINGS = (*JSONL, ".bin")

#: Suffixes of files that are not read, with advice.
NOT_READ = {
    ".parquet": "parquet is read where the package tisslm-parquet is installed; install it",
    ".pkl": "reading such a file could run any program, so it is never read; write JSON lines",
    ".npy": "an array of NumPy is read by no format; use TokenDataset from Python",
    ".npz": "an archive of NumPy is read by no format; use TokenDataset from Python",
    ".zip": "an archive is not read; unpack it to a folder",
}

FORMATS: tuple[Format, ...] = (
    Format("shards", "token shards", is_shards, tokens=open_shards, tokenizer=shards_tokenizer),
    Format("llm.c", "tokens of llm.c", is_llmc, tokens=llmc_tokens),
    Format("nanogpt", "tokens of nanoGPT", is_nanogpt, tokens=nanogpt_tokens),
    Format(
        "jsonl",
        "JSON lines",
        lambda p: p.name.endswith(JSONL),
        documents=jsonl_documents,
        records=jsonl_records,
    ),
    Format("folder", "a folder of texts", Path.is_dir, documents=folder_documents),
    Format("text", "a text", lambda p: p.suffix not in NOT_READ, documents=text_documents),
)
