"""A file of texts becomes a file of vectors, in constant memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tisslm.datasets.sources import ReadOptions
from tisslm.datasets.sources.jsonl import json_kind, jsonl_records
from tisslm.datasets.sources.streams import not_utf8, read_lines
from tisslm.errors import DataError
from tisslm.system.durable import replacing
from tisslm.workflows.embedding.embedder import TextEmbedder

__all__ = ["Embedded", "embed_file", "read_texts"]

#: Bytes of an .npy file before its numbers: enough for any number of rows.
HEADER = 128

#: What names of files of JSON lines have in them.
JSON_LINES = ".jsonl"


@dataclass
class Embedded:
    """How far the texts of a file are embedded.

    Attributes
    ----------
    texts : int
        Vectors that were written.
    size : int
        Numbers of a vector.
    text_bytes : int
        Bytes of text that were read.
    seconds : float
    """

    texts: int = 0
    size: int = 0
    text_bytes: int = 0
    seconds: float = 0.0
    _begun: float = field(default_factory=time.monotonic, repr=False)

    @property
    def rate(self) -> float:
        """Texts per second."""
        return self.texts / max(self.seconds, 1e-9)


def embed_file(
    embedder: TextEmbedder,
    source: Path,
    output: Path,
    *,
    text_field: str = "text",
    progress: Callable[[Embedded], None] = lambda _: None,
    **options: Any,
) -> Embedded:
    """Embed the texts of a file, and write the vectors as an array of NumPy.

    The file appears under its name when it is whole.

    Parameters
    ----------
    embedder : TextEmbedder
    source : Path
        One text a line; or JSON lines, if its name says so.
    output : Path
        Row i of the array is the vector of text i.
    text_field : str
        The field of a JSON record that is its text.
    progress : callable
        Called with what is done so far.
    **options
        Of ``TextEmbedder.encode_stream``.

    Raises
    ------
    ConfigError
        If an option is out of bounds.
    DataError
        If the file cannot be read, a text is empty, the file changes while it is read, or the
        array cannot be written.
    """
    done, before = Embedded(), _state(source)
    texts = _counted(read_texts(source, text_field), done)
    vectors = embedder.encode_stream(texts, **options)
    try:
        with replacing(output) as file, closing(vectors):  # type: ignore[type-var]
            file.write(bytes(HEADER))
            dtype = np.dtype(np.float32)
            for part in vectors:
                dtype, done.size = part.dtype, part.shape[1]
                file.write(np.ascontiguousarray(part).data)
                done.texts += len(part)
                done.seconds = time.monotonic() - done._begun
                progress(done)
            if not done.texts:
                raise DataError(f"{source}: expected a text, got an empty file; give one with some")
            now = _state(source)
            if now != before and now[:2] == before[:2]:  # another file in its place is none of ours
                raise DataError(
                    f"{source}: the file has changed while it was read, so texts may be missing; "
                    "start again when nobody writes to it"
                )
            file.seek(0)
            file.write(npy_header(done.texts, done.size, dtype))
    except OSError as error:
        raise DataError(
            f"{output}: the vectors cannot be written ({error.strerror or error}); make room, or "
            "name another file, and start again"
        ) from error
    done.seconds = time.monotonic() - done._begun
    return done


def _state(path: Path) -> tuple[int, ...]:
    """Return which file it is, its size, and when it was written; nothing if there is none."""
    try:
        found = path.stat()
    except OSError:  # told by who opens it; or it is gone, and was read to its end
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def read_texts(path: Path, text_field: str = "text") -> Iterator[str]:
    """Yield the texts of a file: its lines, or a field of its JSON records.

    Parameters
    ----------
    path : Path
        Perhaps compressed (``.gz``, ``.zst``).
    text_field : str

    Raises
    ------
    DataError
        If the file cannot be read, or a text is empty: rows would no longer be lines.
    """
    if JSON_LINES in path.suffixes:
        yield from _field(path, text_field)
        return
    for number, offset, line in read_lines(path):
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            place = offset + error.start
            raise not_utf8(path, line[error.start], place, number) from None
        _check(text, f"{path}, line {number}")
        yield text


def _field(path: Path, name: str) -> Iterator[str]:
    for where, record in jsonl_records(path, ReadOptions(), form=f'{{"{name}": "..."}}'):
        if name not in record:
            fields = ", ".join(map(repr, list(record)[:8])) or "none"
            raise DataError(
                f"{where}: expected a field {name!r}, got the fields {fields}; name the field of "
                "the text with --field"
            )
        text = record[name]
        if not isinstance(text, str):
            raise DataError(
                f"{where}: expected {name!r} to be a text, got {json_kind(text)}; mend the record"
            )
        _check(text, where)
        yield text


def _check(text: str, where: str) -> None:
    if not text.strip():
        raise DataError(f"{where}: expected a text, got an empty one; remove or fill the line")


def _counted(texts: Iterator[str], done: Embedded) -> Iterator[str]:
    for text in texts:
        done.text_bytes += len(text.encode("utf-8", "replace")) + 1
        yield text


def npy_header(rows: int, size: int, dtype: np.dtype[Any]) -> bytes:
    """Return the first bytes of an ``.npy`` file of shape (rows, size), always as many.

    References
    ----------
    NEP 1, A Simple File Format for NumPy Arrays.
    """
    said = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({rows}, {size}), }}"
    magic = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little")
    return magic + said.ljust(HEADER - 11).encode("ascii") + b"\n"
