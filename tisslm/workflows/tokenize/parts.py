"""Reading the text of sources in parts of bounded size, however long a document is.

Formats are defined in ``tisslm.datasets.sources``; parts are encoded in ``pipeline``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tisslm.datasets.sources import Format, ReadOptions, find_format, read_text_blocks
from tisslm.datasets.sources.formats import folder_files
from tisslm.errors import DataError
from tisslm.tokenizers.cuts import PIECE

__all__ = ["Part", "cut_parts", "read_parts"]

FindCut = Callable[[str, int], int]

#: Longest text, in characters, that is held because no place to cut it is known: the library takes
#: some 100 bytes for each of them.
MAX_UNCUT = 2**24


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a document.

    Attributes
    ----------
    text : str
        May be empty.
    learn : bool
        Whether its tokens may be targets.
    ends_piece : bool
        Whether the text after it is encoded separately.
    ends : bool
        Whether the document ends with it.
    where : str
        The name of its place in messages.
    messages : tuple of mapping, optional
        The document is this conversation, of which ``text`` is the plain form.
    """

    text: str
    learn: bool
    ends_piece: bool
    ends: bool
    where: str
    messages: tuple[Mapping[str, str], ...] | None = None


# --------------------------------------------------------------------------- reading


def read_parts(
    paths: Iterable[Path], options: ReadOptions, format_: str = "auto"
) -> Iterator[Part]:
    """Yield the documents of files and folders in parts; a text file is never held whole.

    Raises
    ------
    DataError
        If a path cannot be read, has ready tokens instead of text, or no document.
    """
    for path in paths:
        found = find_format(path, format_, options.formats)
        if found.documents is None:
            raise DataError(
                f"{path}: expected text, got {found.what}; name a file of text or JSON lines"
            )
        n_documents = 0
        for part in _format_parts(path, found, options):
            n_documents += part.ends
            yield part
        if not n_documents:
            raise DataError(
                f"{path}: expected a document, got none; {options.bad.first or 'add one'}"
            )


def _format_parts(path: Path, found: Format, options: ReadOptions) -> Iterator[Part]:
    if found.name == "folder":
        for file, inner in folder_files(path, options):
            yield from _format_parts(file, inner, options)
    elif found.name == "text":
        yield from text_parts(path, options)
    elif found.documents is not None:
        for document in found.documents(path, options):
            if document.messages is not None:
                yield Part(document.text, True, True, True, document.where, document.messages)
                continue
            last = len(document.pieces) - 1
            for number, (text, learn) in enumerate(document.pieces):
                yield Part(text, learn, True, number == last, document.where)


def text_parts(path: Path, options: ReadOptions) -> Iterator[Part]:
    """Yield the documents of a text file in parts as they are read.

    They are the documents that ``text_documents`` yields whole: one, or the non-empty texts between
    separators.
    """
    separator, found, begun, line = options.document_separator, False, False, 1
    try:
        for text, ends in separated(read_text_blocks(path), separator):
            begun = begun or bool(text)
            if text or (ends and begun):
                found = True
                where = f"{path}, line {line}" if separator else str(path)
                yield Part(text, True, ends, ends, where)
            if ends:
                begun = False
                line += separator.count("\n")
            line += text.count("\n") if separator else 0
        if not found:
            raise DataError(
                f"{path}: expected a text, got an empty file; give a file with text in it"
            )
    except DataError as error:
        options.bad.refuse(str(error))
        if begun:
            yield Part("", True, True, True, str(path))


def separated(blocks: Iterable[str], separator: str) -> Iterator[tuple[str, bool]]:
    """Yield pieces of text, each with a flag: True if a separator or the end follows it."""
    if not separator:
        for block in blocks:
            yield block, False
        yield "", True
        return
    tail = ""
    for block in blocks:
        *whole, rest = (tail + block).split(separator)
        for text in whole:
            yield text, True
        # The end of a block may be the beginning of a separator.
        cut = max(len(rest) - len(separator) + 1, 0)
        yield rest[:cut], False
        tail = rest[cut:]
    yield tail, True


# --------------------------------------------------------------------------- cutting


def cut_parts(parts: Iterable[Part], find_cut: FindCut) -> Iterator[Part]:
    """Yield the same text in pieces that can be encoded one by one.

    A piece ends where a part asks for it, and at places where cutting does not change the ids; so
    the ids of the pieces, joined, are those of the whole.

    Parameters
    ----------
    parts : iterable of Part
    find_cut : callable
        ``Tokenizer.find_cut``.

    Raises
    ------
    DataError
        If no place to cut is known within ``MAX_UNCUT`` characters.
    """
    held: list[str] = []
    n_held = 0
    for part in parts:
        if part.messages is not None:
            yield part
            continue
        text, start = part.text, 0
        while (place := _next_cut(text, start, n_held, find_cut)) > 0:
            yield Part("".join((*held, text[start:place])), part.learn, True, False, part.where)
            held, n_held, start = [], 0, place
        held.append(text[start:])
        n_held += len(text) - start
        if part.ends_piece:
            yield Part("".join(held), part.learn, True, part.ends, part.where)
            held, n_held = [], 0
        elif n_held > MAX_UNCUT:
            raise DataError(
                f"{part.where}: expected a place to cut the text within {MAX_UNCUT} characters, "
                "got none; break it into documents, or take a tokenizer that splits at spaces"
            )


def _next_cut(text: str, start: int, n_held: int, find_cut: FindCut) -> int:
    """Return where the current piece ends within a part, -1 if it goes on."""
    least = start + max(PIECE - n_held, 1)
    if least >= len(text):
        return -1
    return find_cut(text, least)
