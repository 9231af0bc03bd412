"""From ``[data]`` to datasets: sources are read, split, tokenized, packed into rows and mixed.

The sources are found in ``sources``, the tokenizer of a run in ``tokenizer``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tisslm.config import DataSection, Part, RunConfig
from tisslm.contracts import Dataset, Tokenizer
from tisslm.datasets.documents import TokenDocuments
from tisslm.datasets.encoding import DocumentEncoder
from tisslm.datasets.mixed import MixedDataset
from tisslm.datasets.packed import PackedDataset
from tisslm.datasets.splits import TooShortError
from tisslm.datasets.tokens import TokenDataset
from tisslm.errors import DataError
from tisslm.workflows.build.examples import RECORDS, load_examples, load_held_out
from tisslm.workflows.build.formats import installed_formats
from tisslm.registry import Registry
from tisslm.workflows.build.sources import RunSource, run_sources
from tisslm.workflows.build.tokenizer import (
    NOTHING,
    Known,
    check_made_with,
    run_tokenizer,
    tokenizer_without_text,
)

__all__ = ["RunData", "load_data", "load_file", "load_validation"]


@dataclass(frozen=True)
class RunData:
    """The datasets and the tokenizer of a run.

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


def load_data(
    config: RunConfig, seq_len: int, registry: Registry, known: Known = NOTHING
) -> RunData:
    """Read the data of a run, as rows of ``seq_len`` tokens.

    Parameters
    ----------
    config : RunConfig
    seq_len : int
        T of the model.
    registry : Registry
    known : Known, optional
        Tokenizers that there are without the texts.

    Raises
    ------
    ConfigError
        If settings do not fit the data.
    DataError
        If a source cannot be read, or is too short for one row.
    """
    if config.data.name in RECORDS:
        return RunData(*load_examples(config, seq_len, registry, known))
    if config.data.name != "text":
        return _other_data(config, seq_len, registry, known)
    sources = run_sources(config.data, formats=installed_formats(registry))
    tokenizer = run_tokenizer(config, sources, registry, known)
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


def load_validation(
    config: RunConfig, tokenizer: Tokenizer | None, seq_len: int, registry: Registry
) -> Dataset | None:
    """Return the validation data of a run, None if it has none.

    Parameters
    ----------
    config : RunConfig
    tokenizer : Tokenizer or None
        The tokenizer of the model.
    seq_len : int
    registry : Registry

    Raises
    ------
    DataError
        If the data cannot be read, there is no tokenizer to read them, or they are tokens of
        another tokenizer.
    """
    if config.data.name in RECORDS and tokenizer is not None:
        return load_held_out(config, tokenizer, seq_len, registry)
    if config.data.name != "text":
        path = config.data.valid_path
        if not path:
            return None
        if tokenizer is None and _takes_tokenizer(config, registry):
            raise DataError(
                f"{path}: the dataset {config.data.name!r} reads it with a tokenizer, and the "
                "checkpoint has none; train with a tokenizer that is registered"
            )
        return _other_dataset(config, path, tokenizer, seq_len, registry)
    sources = run_sources(config.data, formats=installed_formats(registry))
    if tokenizer is not None:
        check_made_with(sources, tokenizer)
    vocab_size = config.data.vocab_size if tokenizer is None else tokenizer.vocab_size
    found = []
    for source in sources:
        if source.holds_out:
            half = _halves(source, tokenizer, vocab_size, train=False)[1]
            found.append((_rows(half, config.data, seq_len), source.weight))
    return _mixed(found) if found else None


def load_file(
    path: str | Path,
    tokenizer: Tokenizer | None,
    seq_len: int,
    data: DataSection | None = None,
    registry: Registry | None = None,
) -> Dataset:
    """Return the rows of one whole file or folder.

    Rows of whole documents are no longer than the longest of them: the rest would be padding, which
    costs as much as tokens do.

    Parameters
    ----------
    path : str or Path
    tokenizer : Tokenizer or None
        None for ready tokens.
    seq_len : int
    data : DataSection, optional
        How to read and pack it, except for the format; the defaults if left out.
    registry : Registry, optional
        The registry whose plugins' formats are known, too.

    Raises
    ------
    DataError
        If the path cannot be read, is too short for one row, or has tokens of another tokenizer.
    """
    kept = set(DataSection.model_fields) - {"name", "path", "valid_path", "format", "sources"}
    values = {} if data is None else data.model_dump(include=kept, exclude_none=True)
    section = DataSection(**{**values, "path": str(path), "valid_fraction": 0})
    formats = () if registry is None else installed_formats(registry)
    (source,) = run_sources(section, whole=True, formats=formats)
    if tokenizer is not None:
        check_made_with([source], tokenizer)
    vocab_size = section.vocab_size if tokenizer is None else tokenizer.vocab_size
    half = _halves(source, tokenizer, vocab_size)[0]
    if section.packing == "whole" and half.documents is not None:
        seq_len = min(seq_len, int(np.diff(np.asarray(half.documents.offsets)).max()))
    return _rows(half, section, seq_len)


# --------------------------------------------------------------------------- halves and rows


@dataclass(frozen=True)
class _Half:
    """The training or the validation documents of a source, with words for messages about them.

    ``was_split`` tells whether the documents are a part of the source's one path.
    """

    documents: TokenDocuments | None
    name: str
    is_one_text: bool
    advice: str
    was_split: bool


def _halves(
    source: RunSource, tokenizer: Tokenizer | None, vocab_size: int | None, *, train: bool = True
) -> list[_Half]:
    """Read the training (unless ``train`` is False) and validation documents of a source."""
    options = source.options(vocab_size, None if tokenizer is None else tokenizer.end_of_text)
    found = list(source.tokens(options, train=train))
    if tokenizer is not None:
        encoders = [
            DocumentEncoder(
                tokenizer,
                mask_prompt=source.mask_prompt,
                ended=not one_text,
                refuse=options.bad.refuse,
            )
            for one_text in source.one_text
        ]
        for document, is_valid in source.documents(options, train=train):
            if train or is_valid:
                encoders[is_valid].add(document)
        for i, (encoder, name) in enumerate(zip(encoders, source.names, strict=True)):
            found[i] = encoder.finish(name) if len(encoder) else found[i]
    advice, split = ("", source.valid_advice), source.valid is None and source.valid_fraction > 0
    return [
        _Half(*values, was_split=split)
        for values in zip(found, source.names, source.one_text, advice, strict=True)
    ]


def _share_vocabulary(parts: Iterable[Sequence[_Half]]) -> None:
    """Give ready tokens without a tokenizer a common vocabulary: the largest that any needs."""
    documents = [half.documents for part in parts for half in part if half.documents is not None]
    largest = max(found.vocab_size for found in documents)
    for found in documents:
        found.vocab_size = largest


def _rows(half: _Half, data: DataSection, seq_len: int) -> Dataset:
    """Cut documents into rows; a text that is one document, into full windows.

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
        message, n_tokens = f"{error}{half.advice}", 0
        if documents is not None and (n_tokens := len(documents.tokens)) > seq_len:
            raise DataError(message) from error
        raise TooShortError(message, n_tokens, was_split=half.was_split) from error


def _windows(documents: TokenDocuments | None, name: str, seq_len: int) -> TokenDataset:
    tokens = np.empty(0, np.uint8) if documents is None else documents.tokens
    vocab_size = None if documents is None else documents.vocab_size
    try:
        return TokenDataset(tokens, seq_len, vocab_size=vocab_size)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _mixed(parts: Sequence[tuple[Dataset, float]]) -> Dataset:
    """Return the only dataset, or a mixture of several."""
    return parts[0][0] if len(parts) == 1 else MixedDataset(parts)


# --------------------------------------------------------------------------- other datasets


def _other_data(
    config: RunConfig, seq_len: int, registry: Registry, known: Known
) -> RunData:
    """Build a dataset with another name than "text"; only ``data.valid_path`` validates it."""
    tokenizer = None
    if _takes_tokenizer(config, registry):
        tokenizer = tokenizer_without_text(config, registry, known)
    train = _other_dataset(config, config.data.path, tokenizer, seq_len, registry)
    valid = None
    if config.data.valid_path:
        valid = _other_dataset(config, config.data.valid_path, tokenizer, seq_len, registry)
    return RunData(train, valid, train.tokenizer)


def _takes_tokenizer(config: RunConfig, registry: Registry) -> bool:
    return "tokenizer" in inspect.signature(registry.get("dataset", config.data.name)).parameters


def _other_dataset(
    config: RunConfig, path: str, tokenizer: Tokenizer | None, seq_len: int, registry: Registry
) -> Dataset:
    defaults: dict[str, object] = {"seq_len": seq_len}
    if _takes_tokenizer(config, registry):
        defaults["tokenizer"] = tokenizer
    options = {**config.data.options, "path": path} if path else config.data.options
    found: Dataset = registry.build("dataset", Part(config.data.name, options), defaults=defaults)
    return found
