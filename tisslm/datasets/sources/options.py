"""Options of reading sources, and the handling of bad records."""

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
    """The policy for records that cannot be read: raise an error, or leave out and count.

    Parameters
    ----------
    policy : {"error", "skip"}
    quiet : bool
        Whether ``report`` does nothing; set for all but one of several readings.

    Attributes
    ----------
    skipped : int
        How many records were left out.
    first : str
        The message about the first of them.
    """

    def __init__(self, policy: Literal["error", "skip"] = "error", *, quiet: bool = False) -> None:
        self.policy = policy
        self.quiet = quiet
        self.skipped = 0
        self.first = ""

    def refuse(self, message: str) -> None:
        """Raise an error about a record, or count it, by the policy.

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
        """Warn once about all records that were left out."""
        if self.skipped and not self.quiet:
            records = "record" if self.skipped == 1 else "records"
            warnings.warn(
                f"{where}: {self.skipped} bad {records} left out, the first: {self.first}",
                stacklevel=2,
            )


@dataclass(frozen=True)
class Format:
    """A data format: its name, how it is recognized, and the functions that read it.

    Attributes
    ----------
    name : str
        The value of ``data.format``.
    what : str
        A description in a few words.
    recognizes : callable
        Returns whether a path has this format; called in the order of the table.
    documents : callable, optional
        Yields the documents of a path, if the format has text.
    tokens : callable, optional
        Returns the tokens of a path, if the format has ids. A format has either text or ids, or
        nothing but records.
    valid : callable, optional
        Returns the tokens of a path that are held out to validate on, None if it has none.
    tokenizer : callable, optional
        Returns name and state of the tokenizer that made the tokens, None if they are unknown.
    records : callable, optional
        Yields the records of a path, each a mapping with the place that messages name, if the
        format has records: what ``tisslm.datasets.examples`` reads.
    """

    name: str
    what: str
    recognizes: Callable[[Path], bool]
    documents: Callable[[Path, ReadOptions], Iterator[Document]] | None = None
    tokens: Callable[[Path, ReadOptions], TokenDocuments] | None = None
    valid: Callable[[Path, ReadOptions], TokenDocuments | None] | None = None
    tokenizer: Callable[[Path], tuple[str, Mapping[str, Any]] | None] | None = None
    records: Callable[[Path, ReadOptions], Iterator[tuple[str, Mapping[str, Any]]]] | None = None


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading documents.

    Attributes
    ----------
    text_field : str
        The field of a JSON record that is the text.
    document_separator : str
        What stands between two documents in a text file; "" makes the file one document.
    bad : BadRecords
        What happens to bad records.
    vocab_size : int or None
        For ready tokens: the ids must be below it. None takes the value in the file.
    end_of_text : int or None
        For ready tokens without offsets: the id that ends a document. None takes the id that the
        format has; if it has none, all tokens are one document.
    verify : bool
        For token shards: whether every file is read and its SHA-256 compared.
    formats : tuple of Format
        Formats that plugins bring; they are asked before the built-in ones.
    chat : {"template", "plain"}
        Whether conversations are written by the tokenizer's chat template, or as role, content
        and a blank line.
    """

    text_field: str = "text"
    document_separator: str = ""
    bad: BadRecords = field(default_factory=BadRecords)
    vocab_size: int | None = None
    end_of_text: int | None = None
    verify: bool = False
    formats: tuple[Format, ...] = ()
    chat: Literal["template", "plain"] = "template"
