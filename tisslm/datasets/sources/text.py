"""Documents of text files: one per file, or one between each two separators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tisslm.datasets.documents import Document
from tisslm.datasets.sources.options import ReadOptions
from tisslm.datasets.sources.streams import read_text_blocks
from tisslm.errors import DataError

__all__ = ["text_documents"]


def text_documents(path: Path, options: ReadOptions) -> Iterator[Document]:
    """Yield the documents of a text file, which may be compressed.

    Parameters
    ----------
    path : Path
    options : ReadOptions
        With a ``document_separator``, each text between two of them that is not empty is a
        document, unchanged. Without one, the file is one document.

    Raises
    ------
    DataError
        If the file is not UTF-8 text. (With ``bad_records = "skip"`` the rest of the file is
        left out.)
    """
    try:
        yield from _documents(path, options.document_separator)
    except DataError as error:
        options.bad.refuse(str(error))


def _documents(path: Path, separator: str) -> Iterator[Document]:
    found, line = False, 1
    for text in _parts(path, separator):
        if text:
            found = True
            where = f"{path}, line {line}" if separator else str(path)
            yield Document(((text, True),), where)
        line += text.count("\n") + separator.count("\n")
    if not found:
        raise DataError(f"{path}: expected a text, got an empty file; give a file with text in it")


def _parts(path: Path, separator: str) -> Iterator[str]:
    """Yield the texts between separators, or the whole file without one."""
    if not separator:
        yield "".join(read_text_blocks(path))
        return
    pending: list[str] = []  # blocks of a document whose end was not yet seen
    tail = ""
    for block in read_text_blocks(path):
        *whole, rest = (tail + block).split(separator)
        for text in whole:
            pending.append(text)
            yield "".join(pending)
            pending = []
        # The end of a block may be the beginning of a separator.
        kept = min(len(separator) - 1, len(rest))
        pending.append(rest[: len(rest) - kept])
        tail = rest[len(rest) - kept :]
    pending.append(tail)
    yield "".join(pending)
