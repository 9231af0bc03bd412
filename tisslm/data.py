"""From ``[data]`` to datasets: sources are read, split, tokenized, packed into rows and mixed.

What does not live here: each of these steps (``datasets``), and the keys (``config``).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tisslm.config import DataSection, Part, RunConfig
from tisslm.contracts import Dataset, Tokenizer
from tisslm.datasets.documents import DocumentEncoder, TokenDocuments
from tisslm.datasets.mixed import MixedDataset
from tisslm.datasets.packed import PackedDataset
from tisslm.datasets.tokens import TokenDataset
from tisslm.errors import ConfigError, DataError
from tisslm.registry import Registry
from tisslm.run_sources import RunSource, run_sources

__all__ = ["RunData", "load_data", "load_file", "load_validation"]


@dataclass(frozen=True)
class RunData:
    """What a run reads.

    Attributes
    ----------
    train : Dataset
    valid : Dataset or None
    tokenizer : Tokenizer or None
        None if the dataset has ids only.
    """

    train: Dataset
    valid: Dataset | None
    tokenizer: Tokenizer | None


def load_data(config: RunConfig, seq_len: int, registry: Registry) -> RunData:
    """Read what ``[data]`` names, as rows of ``seq_len`` tokens.

    Parameters
    ----------
    config : RunConfig
    seq_len : int
        T of the model.
    registry : Registry

    Raises
    ------
    ConfigError
        If settings do not fit the data.
    DataError
        If a source cannot be read, or is too short for one row.
    """
    if config.data.name != "text":
        return _other_dataset(config, seq_len, registry)
    sources = run_sources(config.data)
    tokenizer = _tokenizer(config, sources, registry)
    vocab_size = config.data.vocab_size if tokenizer is None else tokenizer.vocab_size
    parts = [_halves(source, tokenizer, vocab_size) for source in sources]
    if tokenizer is None:
        _share_vocabulary(parts)
    train, valid = [], []
    for halves, source in zip(parts, sources, strict=True):
        train.append((_rows(halves[0], config.data, seq_len), source.weight))
        if source.holds_out:
            valid.append((_rows(halves[1], config.data, seq_len), source.weight))
    return RunData(_mixed(train), _mixed(valid) if valid else None, tokenizer)


def load_validation(config: RunConfig, tokenizer: Tokenizer | None, seq_len: int) -> Dataset | None:
    """Return what a run validates on, None if nothing.

    Parameters
    ----------
    config : RunConfig
    tokenizer : Tokenizer or None
    seq_len : int

    Raises
    ------
    DataError
        If it cannot be read.
    """
    if config.data.name != "text":
        return None
    vocab_size = config.data.vocab_size if tokenizer is None else tokenizer.vocab_size
    found = []
    for source in run_sources(config.data):
        if source.holds_out:
            half = _halves(source, tokenizer, vocab_size, train=False)[1]
            found.append((_rows(half, config.data, seq_len), source.weight))
    return _mixed(found) if found else None


def load_file(
    path: str | Path, tokenizer: Tokenizer | None, seq_len: int, data: DataSection | None = None
) -> Dataset:
    """Return the rows of one file or folder, whole.

    Parameters
    ----------
    path : str or Path
    tokenizer : Tokenizer or None
        None for ready tokens.
    seq_len : int
    data : DataSection, optional
        How to read and pack it; left out, by the defaults.

    Raises
    ------
    DataError
        If it cannot be read, or is too short for one row.
    """
    values = {} if data is None else data.model_dump(exclude={"sources"}, exclude_none=True)
    section = DataSection(**{**values, "name": "text", "path": str(path), "valid_fraction": 0})
    (source,) = run_sources(section, whole=True)
    vocab_size = section.vocab_size if tokenizer is None else tokenizer.vocab_size
    return _rows(_halves(source, tokenizer, vocab_size)[0], section, seq_len)


# --------------------------------------------------------------------------- halves and rows


@dataclass(frozen=True)
class _Half:
    """What a source trains or validates on, what to call it, and what to add to a message."""

    documents: TokenDocuments | None
    name: str
    is_one_text: bool
    advice: str


def _halves(
    source: RunSource, tokenizer: Tokenizer | None, vocab_size: int | None, *, train: bool = True
) -> list[_Half]:
    """Read what a source trains on (unless ``train`` is False) and what it validates on."""
    options = source.options(vocab_size, None if tokenizer is None else tokenizer.end_of_text)
    found = list(source.tokens(options, train=train))
    if tokenizer is not None:
        encoders = [
            DocumentEncoder(tokenizer, mask_prompt=source.mask_prompt, ended=not one_text)
            for one_text in source.one_text
        ]
        for document, is_valid in source.documents(options, train=train):
            if train or is_valid:
                encoders[is_valid].add(document)
        for i, (encoder, name) in enumerate(zip(encoders, source.names, strict=True)):
            found[i] = encoder.finish(name) if len(encoder) else found[i]
    advice = ("", source.valid_advice)
    return [
        _Half(*values) for values in zip(found, source.names, source.one_text, advice, strict=True)
    ]


def _share_vocabulary(parts: Iterable[Sequence[_Half]]) -> None:
    """Give ready tokens without a tokenizer one vocabulary: the largest that any needs."""
    documents = [half.documents for part in parts for half in part if half.documents is not None]
    largest = max(found.vocab_size for found in documents)
    for found in documents:
        found.vocab_size = largest


def _rows(half: _Half, data: DataSection, seq_len: int) -> Dataset:
    """Cut documents into rows; a text that is one document, into windows that are all full.

    Raises
    ------
    DataError
        If there is none, or too little for one row.
    """
    documents = half.documents
    try:
        if half.is_one_text and data.packing == "stream":
            return _windows(documents, half.name, seq_len)
        if documents is None:
            raise DataError(f"{half.name}: expected a document, got none; give more of them")
        return PackedDataset(
            documents, seq_len, packing=data.packing, document_mask=data.document_mask
        )
    except DataError as error:
        raise DataError(f"{error}{half.advice}") from error


def _windows(documents: TokenDocuments | None, name: str, seq_len: int) -> TokenDataset:
    tokens = np.empty(0, np.uint8) if documents is None else documents.tokens
    vocab_size = None if documents is None else documents.vocab_size
    try:
        return TokenDataset(tokens, seq_len, vocab_size=vocab_size)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _mixed(parts: Sequence[tuple[Dataset, float]]) -> Dataset:
    """Return the one dataset that there is, or several mixed."""
    return parts[0][0] if len(parts) == 1 else MixedDataset(parts)


# --------------------------------------------------------------------------- tokenizers


def _tokenizer(
    config: RunConfig, sources: Iterable[RunSource], registry: Registry
) -> Tokenizer | None:
    """Return the tokenizer that made ready tokens, or one for the texts.

    For ready tokens that say nothing of their tokenizer it is that of the configuration if it
    needs no text, and else none.
    """
    sources = list(sources)
    for source in sources:
        said = source.said_tokenizer()
        if said is not None:
            name, state = said
            made: Tokenizer = registry.get("tokenizer", name).from_state(state)
            return made
    if any(source.has_text for source in sources):
        return _learned(config.tokenizer, learning_texts(sources), registry)
    try:
        return _learned(config.tokenizer, iter(()), registry)
    except DataError:
        return None


def learning_texts(sources: Iterable[RunSource]) -> Iterator[str]:
    """Yield the texts to train on, with each character that only held-out texts have at the end.

    What a tokenizer learns from frequencies must not come from held-out text; shown once, a
    character can be encoded by a tokenizer of characters.
    """
    known: set[str] = set()
    held_out: set[str] = set()
    last = ""
    for source in sources:
        for document, is_valid in source.documents(source.options(quiet=True)):
            text = document.text
            if is_valid:
                held_out.update(text)
                continue
            known.update(text)
            if last:
                yield last
            last = text
    yield last + "".join(sorted(held_out - known))


def _learned(part: Part, texts: Iterator[str], registry: Registry) -> Tokenizer:
    """Build a tokenizer from texts; one that learns nothing does not read them."""
    cls = registry.get("tokenizer", part.name)
    overrides = {
        name: getattr(cls, name).__func__ is not getattr(Tokenizer, name).__func__
        for name in ("from_text", "from_texts")
        if hasattr(getattr(cls, name, None), "__func__")
    }
    tokenizer: Tokenizer
    if overrides.get("from_texts"):
        tokenizer = registry.build("tokenizer", part, texts, via="from_texts")
    else:
        text = "".join(texts) if overrides.get("from_text") else ""
        tokenizer = registry.build("tokenizer", part, text, via="from_text")
    return tokenizer


# --------------------------------------------------------------------------- other datasets


def _other_dataset(config: RunConfig, seq_len: int, registry: Registry) -> RunData:
    """Build a dataset of another name; it is validated on ``data.valid_path`` only."""
    data = config.data
    defaults: dict[str, object] = {"seq_len": seq_len}
    if "tokenizer" in inspect.signature(registry.get("dataset", data.name)).parameters:
        defaults["tokenizer"] = _tokenizer_without_text(config, registry)
    found: list[Dataset] = []
    for path in (data.path, data.valid_path):
        options = {**data.options, "path": path} if path else data.options
        if path or not found:
            part = Part(data.name, options)
            found.append(registry.build("dataset", part, defaults=defaults))
    return RunData(
        found[0], found[1] if len(found) > 1 else None, getattr(found[0], "tokenizer", None)
    )


def _tokenizer_without_text(config: RunConfig, registry: Registry) -> Tokenizer:
    try:
        return _learned(config.tokenizer, iter(()), registry)
    except DataError as error:
        raise ConfigError(
            f"tokenizer.name: {config.tokenizer.name!r} learns from a text, which the dataset "
            f"{config.data.name!r} does not give; choose byte, or bpe with a path"
        ) from error
