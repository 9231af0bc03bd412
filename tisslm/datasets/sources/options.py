"""How sources are read: what a user may choose, and what becomes of a record that is bad."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tisslm.datasets.documents import Document, TokenDocuments
from tisslm.errors import DataError

__all__ = ["BadRecords", "Format", "ReadOptions"]


class BadRecords:
    """What becomes of a record that cannot be read: an error, or left out and counted.

    Parameters
    ----------
    policy : {"error", "skip"}
    quiet : bool
        Whether ``report`` says nothing, for all but one of several readings.

    Attributes
    ----------
    skipped : int
        How many were left out.
    first : str
        The message of the first of them.
    """

    def __init__(self, policy: Literal["error", "skip"] = "error", *, quiet: bool = False) -> None:
        self.policy = policy
        self.quiet = quiet
        self.skipped = 0
        self.first = ""

    def refuse(self, message: str) -> None:
        """Raise, or count.

        Raises
        ------
        DataError
            If the policy is "error".
        """
        if self.policy == "error":
            raise DataError(message)
        self.skipped += 1
        self.first = self.first or message

    def report(self, where: str) -> None:
        """Warn once of all that were left out."""
        if self.skipped and not self.quiet:
            records = "record" if self.skipped == 1 else "records"
            warnings.warn(
                f"{where}: {self.skipped} bad {records} left out, the first: {self.first}",
                stacklevel=2,
            )


@dataclass(frozen=True)
class Format:
    """One format: what it is called, how it is recognized, and who reads it.

    Attributes
    ----------
    name : str
        The value of ``data.format``.
    what : str
        What it is, in a few words.
    recognizes : callable
        Whether a path has it; asked in the order of the table.
    documents : callable, optional
        Yields the documents of a path: the format has text.
    tokens : callable, optional
        Returns the tokens of a path: the format has ids. Exactly one of the two is given.
    valid : callable, optional
        Returns the tokens of a path that are held out to validate on, None if it has none.
    tokenizer : callable, optional
        Returns name and state of the tokenizer that made the tokens, None if a path says none.
    """

    name: str
    what: str
    recognizes: Callable[[Path], bool]
    documents: Callable[[Path, ReadOptions], Iterator[Document]] | None = None
    tokens: Callable[[Path, ReadOptions], TokenDocuments] | None = None
    valid: Callable[[Path, ReadOptions], TokenDocuments | None] | None = None
    tokenizer: Callable[[Path], tuple[str, Mapping[str, Any]] | None] | None = None


@dataclass(frozen=True)
class ReadOptions:
    """What may be chosen about reading documents.

    Attributes
    ----------
    text_field : str
        The field of a JSON record that is the text.
    document_separator : str
        What stands between two documents in a text file; "" makes the file one document.
    bad : BadRecords
        Where bad records go.
    vocab_size : int or None
        For ready tokens: the ids must be below it. None takes what the file says.
    end_of_text : int or None
        For ready tokens without offsets: the id that ends a document. None takes what the format
        says; where it says nothing, all is one document.
    verify : bool
        For token shards: whether every file is read and its SHA-256 compared.
    formats : tuple of Format
        Formats that plugins bring; they are asked before the built-in ones.
    """

    text_field: str = "text"
    document_separator: str = ""
    bad: BadRecords = field(default_factory=BadRecords)
    vocab_size: int | None = None
    end_of_text: int | None = None
    verify: bool = False
    formats: tuple[Format, ...] = ()
