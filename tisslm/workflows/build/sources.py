"""The sources named by ``[data]``: the training and the validation documents of each.

Formats are read in ``datasets.sources``; documents become rows in ``data``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tisslm.config import DataSection
from tisslm.config.aliases import note
from tisslm.datasets.documents import Document, TokenDocuments
from tisslm.datasets.sources.python_docs import python_docs_text
from tisslm.datasets.sources import (
    BadRecords,
    Format,
    ReadOptions,
    find_format,
    read_documents,
    read_tokens,
    split_files,
)
from tisslm.datasets.splits import is_held_out, split_documents
from tisslm.system.quantities import size_text
from tisslm.datasets.text import split_text

__all__ = ["PYTHON_DOCS", "RunSource", "run_sources"]

#: The ``data.path`` that stands for the text that every Python carries.
PYTHON_DOCS = "python-docs"

#: From this many bytes of text on, a note advises to tokenize it once, in advance.
LARGE_TEXT = 2**30


@dataclass(frozen=True)
class Place:
    """A path and how it is read; without a format, it is the text that comes with Python.

    Attributes
    ----------
    path : str
    format : Format or None
    is_one_text : bool
        Whether it is one text, which is split by characters and gets no end-of-text token.
    """

    path: str
    format: Format | None
    is_one_text: bool

    @classmethod
    def of(
        cls, path: str, format_name: str, separator: str, formats: tuple[Format, ...] = ()
    ) -> Place:
        """Find the format of a path."""
        if path == PYTHON_DOCS:
            return cls(path, None, True)
        found = find_format(path, format_name, formats)
        return cls(path, found, found.name == "text" and not separator)

    @property
    def has_text(self) -> bool:
        """True if it has text to tokenize, False if it has ready tokens."""
        return self.format is None or self.format.documents is not None

    @property
    def text_bytes(self) -> int:
        """The bytes of the text files, 0 for ready tokens."""
        if self.format is None or not self.has_text:
            return 0
        path = Path(self.path)
        files = (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else (path,)
        return sum(file.stat().st_size for file in files)

    def documents(self, options: ReadOptions) -> Iterator[Document]:
        """Yield the documents of text."""
        if self.format is None:
            yield Document(((python_docs_text(), True),), self.path)
        else:
            yield from read_documents(self.path, format=self.format.name, options=options)

    def tokens(self, options: ReadOptions) -> TokenDocuments:
        """Return ready tokens."""
        name = "auto" if self.format is None else self.format.name
        return read_tokens(self.path, format=name, options=options)


@dataclass(frozen=True)
class RunSource:
    """One source of a run's data.

    Attributes
    ----------
    train : Place
    valid : Place or None
        The validation data, if they have a path of their own.
    valid_fraction : float
        The share of ``train`` that is held out if they have not.
    text_field, document_separator, bad_records, chat
        As in ``DataSection``.
    mask_prompt : bool
        Whether prompts are read without being learned.
    verify : bool
        Whether the files of token shards are read and compared with their SHA-256.
    weight : float
        The share of the rows is the weight divided by the sum of all weights.
    whole : bool
        Whether messages name the data by their path alone, because all of it is read.
    formats : tuple of Format
        Formats of plugins.
    """

    train: Place
    valid: Place | None
    valid_fraction: float
    text_field: str
    document_separator: str
    bad_records: Literal["error", "skip"]
    mask_prompt: bool
    verify: bool = False
    weight: float = 1.0
    whole: bool = False
    formats: tuple[Format, ...] = ()
    chat: Literal["template", "plain"] = "template"

    @property
    def has_text(self) -> bool:
        """True if there is text to train a tokenizer on."""
        return self.train.has_text

    @property
    def reads_text(self) -> bool:
        """True if any of the data is text, for which a tokenizer is needed."""
        return self.has_text or (self.valid is not None and self.valid.has_text)

    @property
    def holds_out(self) -> bool:
        """True if there will be validation data."""
        return self.valid is not None or self.valid_fraction > 0

    @property
    def names(self) -> tuple[str, str]:
        """The names of training and validation data in messages."""
        train = self.train.path if self.whole else f"{self.train.path}, training part"
        if self.valid is not None:
            return train, self.valid.path
        return train, f"{self.train.path}, validation part"

    @property
    def one_text(self) -> tuple[bool, bool]:
        """Two flags: the training data are one text, and the validation data are."""
        return self.train.is_one_text, (self.valid or self.train).is_one_text

    @property
    def valid_advice(self) -> str:
        """What to append to a message about the validation data."""
        if self.valid is not None:
            return ""
        return (
            f"; or change data.valid_fraction = {self.valid_fraction}, where 0 trains without "
            "validation"
        )

    def options(
        self, vocab_size: int | None = None, end_of_text: int | None = None, *, quiet: bool = False
    ) -> ReadOptions:
        """Return the options of reading; ``quiet`` is for all readings but one."""
        return ReadOptions(
            self.text_field,
            self.document_separator,
            BadRecords(self.bad_records, quiet=quiet),
            vocab_size,
            end_of_text,
            self.verify,
            self.formats,
            self.chat,
        )

    def said_tokenizers(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Yield path, tokenizer name and tokenizer state of ready tokens that record them."""
        for place in (self.train, self.valid):
            if place is None or place.format is None or place.format.tokenizer is None:
                continue
            said = place.format.tokenizer(Path(place.path))
            if said is not None:
                yield place.path, *said

    # ------------------------------------------------------------------ reading

    def documents(
        self, options: ReadOptions, *, train: bool = True
    ) -> Iterator[tuple[Document, bool]]:
        """Yield the documents of text, each with a flag that is True for validation.

        Parameters
        ----------
        options : ReadOptions
        train : bool
            Whether the training documents are wanted; if not, they may be left out.
        """
        if self.train.is_one_text and self.valid is None:
            yield from self._parts
            return
        if self.train.has_text and (train or self.valid is None):
            for index, document in enumerate(self.train.documents(options)):
                yield document, self.valid is None and is_held_out(index, self.valid_fraction)
        if self.valid is not None and self.valid.has_text:
            for document in self.valid.documents(options):
                yield document, True

    def tokens(
        self, options: ReadOptions, *, train: bool = True
    ) -> tuple[TokenDocuments | None, TokenDocuments | None]:
        """Return the ready tokens for training and for validation; None where there is text."""
        if self.valid is not None:
            wanted = train and not self.train.has_text
            return (
                self.train.tokens(options) if wanted else None,
                None if self.valid.has_text else self.valid.tokens(options),
            )
        form = self.train.format
        if form is None or form.tokens is None:
            return None, None
        documents = self.train.tokens(options)
        apart = form.valid(Path(self.train.path), options) if form.valid is not None else None
        if apart is not None or form.valid is not None:
            return documents, apart
        return split_documents(documents, self.valid_fraction)

    @cached_property
    def _parts(self) -> list[tuple[Document, bool]]:
        """The two parts of a text that is split by characters; it is read once."""
        (document,) = self.train.documents(self.options())
        halves = split_text(document.text, self.valid_fraction)
        return [
            (Document(((text, True),), name), is_valid)
            for text, name, is_valid in zip(halves, self.names, (False, True), strict=True)
            if text
        ]


def run_sources(
    data: DataSection, *, whole: bool = False, formats: tuple[Format, ...] = ()
) -> list[RunSource]:
    """Return the sources of a run: one, unless ``data.sources`` lists several.

    Parameters
    ----------
    data : DataSection
    whole : bool
        Whether to read all of ``data.path`` and hold nothing out.
    formats : tuple of Format
        Formats of plugins (``tisslm.workflows.build.formats``).

    Raises
    ------
    ConfigError
        If a format is unknown.
    DataError
        If a path does not exist, or is never read.
    """
    own = data.model_dump(exclude={"sources"})
    tables = [source.model_dump(exclude_none=True) for source in data.sources] or [{}]
    sources = [_run_source({**own, **table}, whole, formats) for table in tables]
    for source in sources:
        if source.train.text_bytes > LARGE_TEXT:
            note(
                f"{source.train.path}: {size_text(source.train.text_bytes)} of text are "
                "tokenized at each start and held as tokens in memory; tisslm tokenize makes token "
                "shards of them once, which stay on the disk"
            )
    return sources


def _run_source(values: Mapping[str, Any], whole: bool, formats: tuple[Format, ...]) -> RunSource:
    separator, form = values["document_separator"], values["format"]
    path, valid_path = values["path"], values["valid_path"]
    if path != PYTHON_DOCS and not whole:
        train, beside = split_files(path)
        path, valid_path = str(train), valid_path or (str(beside) if beside else "")
    valid = None
    if valid_path:
        same = Path(valid_path).suffix == Path(path).suffix
        valid = Place.of(valid_path, form if same else "auto", separator, formats)
    names = (
        "valid_fraction",
        "text_field",
        "document_separator",
        "bad_records",
        "mask_prompt",
        "chat",
    )
    return RunSource(
        Place.of(path, form, separator, formats),
        valid,
        **{name: values[name] for name in names},
        verify=values["verify"],
        weight=values.get("weight", 1.0),
        whole=whole,
        formats=formats,
    )
