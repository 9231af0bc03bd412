"""WordNet's database files: the words of a set of synonyms, and their definition.

The files are ``data.noun``, ``data.verb``, ``data.adj`` and ``data.adv`` of Princeton's WordNet 3.x
(format: ``wndb(5)``); Debian's package wordnet-base puts them into ``/usr/share/wordnet``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tisslm.datasets.sources.options import ReadOptions
from tisslm.datasets.sources.streams import read_lines
from tisslm.errors import DataError

__all__ = ["WORDNET_FILES", "is_wordnet", "wordnet_records"]

#: The files that are read, in this order.
WORDNET_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")

#: Where an adjective stands, written after it: before a noun, after a verb, right after a noun.
_PLACE = re.compile(r"\((?:a|p|ip)\)$")

#: What may stand before an example sentence, and is left at the end of a definition.
_BEFORE_EXAMPLE = re.compile(r"(?:[;:,\s]|\b(?:as in|e\.g\.|i\.e\.))+$")


def is_wordnet(path: Path) -> bool:
    """Return True for a folder that has the database files."""
    return (path / WORDNET_FILES[0]).is_file()


def wordnet_records(path: Path, options: ReadOptions) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield ``{"anchor": words, "positive": definition}`` for each set of synonyms.

    The words stand side by side, with a comma and a blank between; example sentences are cut off. A
    definition that was given before is left out, so that no two anchors have the same positive.

    Parameters
    ----------
    path : Path
        The folder with the files.
    options : ReadOptions

    Raises
    ------
    DataError
        If a file is missing, or a line is no set of synonyms and bad records are errors.
    """
    seen: set[bytes] = set()
    for name in WORDNET_FILES:
        for number, _, line in read_lines(path / name):
            if line.startswith(b"  ") or line.isspace():  # the licence
                continue
            where = f"{path / name}, line {number}"
            try:
                words, definition = _parse(line.decode("latin-1"), where)
            except DataError as error:
                options.bad.refuse(str(error))
                continue
            key = hashlib.blake2b(definition.encode(), digest_size=8).digest()
            if key not in seen:
                seen.add(key)
                yield where, {"anchor": ", ".join(words), "positive": definition}


def _parse(line: str, where: str) -> tuple[list[str], str]:
    """Return the words of a line of the database, and their definition."""
    head, bar, gloss = line.partition(" | ")
    fields = head.split()
    try:
        count = int(fields[3], 16)
        words = [_word(fields[4 + 2 * i]) for i in range(count)]
    except (IndexError, ValueError):
        words = []
    definition = _definition(gloss)
    if not (words and bar and definition):
        raise DataError(
            f"{where}: expected a set of synonyms, numbers and words with a definition after ' | ',"
            f" got {line[:60].strip()!r}; give WordNet's own files, or remove the line"
        )
    return words, definition


def _word(field: str) -> str:
    return _PLACE.sub("", field).replace("_", " ")


def _definition(gloss: str) -> str:
    """Return a gloss up to its first quotation, but for one within parentheses."""
    quote = gloss.find('"')
    while quote >= 0 and gloss.count("(", 0, quote) > gloss.count(")", 0, quote):
        quote = gloss.find('"', quote + 1)
    if quote >= 0:
        gloss = gloss[:quote]
    return _BEFORE_EXAMPLE.sub("", gloss).strip()
