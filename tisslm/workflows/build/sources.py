"""The sources that ``[data]`` names: what of each is to train on, and what to validate on.

What does not live here: reading a format (``datasets.sources``), and tokens (``data``).
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
from tisslm.datasets.python_docs import python_docs_text
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

#: The ``data.path`` of the text that every Python carries.
PYTHON_DOCS = "python-docs"

#: Bytes of text from which on a note says that it should be tokenized once, ahead.
LARGE_TEXT = 2**30


@dataclass(frozen=True)
class Place:
    """A path and how it is read; no format means the text that comes with Python.

    Attributes
    ----------
    path : str
    format : Format or None
    is_one_text : bool
        Whether it is one text, which is cut by characters and not ended by an end of text.
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
        """Whether it has text to tokenize, and not ready tokens."""
        return self.format is None or self.format.documents is not None

    @property
    def text_bytes(self) -> int:
        """Bytes of the files of text, 0 for ready tokens."""
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
    """One source of a run.

    Attributes
    ----------
    train : Place
    valid : Place or None
        What to validate on, where it is apart.
    valid_fraction : float
        How much of ``train`` is held out where it is not.
    text_field, document_separator, bad_records
        As in ``DataSection``.
    mask_prompt : bool
        Whether prompts are read without being learned.
    verify : bool
        Whether the files of token shards are read and compared with their SHA-256.
    weight : float
        Its share, by the sum of all weights.
    whole : bool
        Whether messages call the data by their path alone, because all of it is read.
    formats : tuple of Format
        Of plugins.
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

    @property
    def has_text(self) -> bool:
        """Whether there is text to learn a tokenizer from."""
        return self.train.has_text

    @property
    def reads_text(self) -> bool:
        """Whether any of it is text, which a tokenizer must read."""
        return self.has_text or (self.valid is not None and self.valid.has_text)

    @property
    def holds_out(self) -> bool:
        """Whether there is to be something to validate on."""
        return self.valid is not None or self.valid_fraction > 0

    @property
    def names(self) -> tuple[str, str]:
        """What messages call the data to train on and those to validate on."""
        train = self.train.path if self.whole else f"{self.train.path}, training part"
        if self.valid is not None:
            return train, self.valid.path
        return train, f"{self.train.path}, validation part"

    @property
    def one_text(self) -> tuple[bool, bool]:
        """Whether each of the two is one text."""
        return self.train.is_one_text, (self.valid or self.train).is_one_text

    @property
    def valid_advice(self) -> str:
        """What to add to a message about what is validated on."""
        if self.valid is not None:
            return ""
        return (
            f"; or change data.valid_fraction = {self.valid_fraction}, where 0 trains without "
            "validation"
        )

    def options(
        self, vocab_size: int | None = None, end_of_text: int | None = None, *, quiet: bool = False
    ) -> ReadOptions:
        """Return how to read it; ``quiet`` for all readings but one."""
        return ReadOptions(
            self.text_field,
            self.document_separator,
            BadRecords(self.bad_records, quiet=quiet),
            vocab_size,
            end_of_text,
            self.verify,
            self.formats,
        )

    def said_tokenizers(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Yield path, tokenizer's name and its state for all ready tokens that say theirs."""
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
        """Yield the documents of text, each with whether it is to validate on.

        Parameters
        ----------
        options : ReadOptions
        train : bool
            Whether those to train on are wanted; else some may be left out.
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
        """Return the ready tokens to train on and to validate on; None where there is text."""
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
        """One text, cut in two by characters; read once."""
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
    """Return the sources of a run, one unless ``data.sources`` has more.

    Parameters
    ----------
    data : DataSection
    whole : bool
        Whether to read all of ``data.path`` and hold nothing out.
    formats : tuple of Format
        Of plugins (``tisslm.workflows.build.formats``).

    Raises
    ------
    ConfigError
        If there is no format of a given name.
    DataError
        If a path is not there, or is never read.
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
    names = ("valid_fraction", "text_field", "document_separator", "bad_records", "mask_prompt")
    return RunSource(
        Place.of(path, form, separator, formats),
        valid,
        **{name: values[name] for name in names},
        verify=values["verify"],
        weight=values.get("weight", 1.0),
        whole=whole,
        formats=formats,
    )
