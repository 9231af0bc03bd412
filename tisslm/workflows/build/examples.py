"""From ``[data]`` with the dataset "examples" or "preferences" to two datasets: split, tokenized.

Formats and fields are in ``tisslm.datasets.examples``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tisslm.config import Part, RunConfig
from tisslm.config.model import FROM
from tisslm.contracts import Tokenizer
from tisslm.datasets.examples import (
    Example,
    ExampleDataset,
    Preference,
    PreferenceDataset,
    RecordSource,
    example_source,
    preference_source,
)
from tisslm.datasets.sources import split_files
from tisslm.errors import ConfigError, NoTextError
from tisslm.registry import Registry
from tisslm.workflows.build.formats import installed_formats
from tisslm.workflows.build.tokenizer import Known, learned, note_other_ids

__all__ = [
    "EXAMPLES",
    "PREFERENCES",
    "RECORDS",
    "load_example_file",
    "load_examples",
    "load_held_out",
]

#: The datasets' names in ``[data]``.
EXAMPLES, PREFERENCES = "examples", "preferences"

_SOURCES: Mapping[str, Callable[..., RecordSource[Any]]] = {
    EXAMPLES: example_source,
    PREFERENCES: preference_source,
}

#: All of these names.
RECORDS = frozenset(_SOURCES)

_Found = ExampleDataset | PreferenceDataset


def load_examples(
    config: RunConfig, seq_len: int, registry: Registry, known: Known
) -> tuple[_Found, _Found | None, Tokenizer]:
    """Read the examples or pairs of a run, and its tokenizer, which may learn from their texts.

    Parameters
    ----------
    config : RunConfig
    seq_len : int
        T of the model.
    registry : Registry
    known : Known

    Returns
    -------
    train : ExampleDataset or PreferenceDataset
    valid : the same, or None
        None if nothing is held out.
    tokenizer : Tokenizer

    Raises
    ------
    ConfigError
        If settings do not fit the data.
    DataError
        If a file cannot be read, or a record is bad.
    """
    train_path, valid_path = _paths(config)
    if FROM in config.model and known.of_model is None:
        note_other_ids(config)
    texts = _learning_texts(config, registry, train_path, valid_path)
    try:
        tokenizer = learned(config.tokenizer, texts, registry, known)
    except NoTextError as error:
        raise ConfigError(f"{train_path}: {error}") from error
    held_out = None if valid_path or not _holds_out(config) else False
    train = _dataset(config, registry, tokenizer, seq_len, train_path, held_out)
    if held_out is False:
        return train, train.validation(), tokenizer
    valid = None
    if valid_path:
        valid = _dataset(config, registry, tokenizer, seq_len, valid_path, None)
        if isinstance(train, ExampleDataset) and isinstance(valid, ExampleDataset):
            _check_alike(train, valid, valid_path)
    return train, valid, tokenizer


def load_held_out(
    config: RunConfig, tokenizer: Tokenizer, seq_len: int, registry: Registry
) -> _Found | None:
    """Return the examples that a run validates on, None if it has none.

    Raises
    ------
    ConfigError, DataError
        As ``load_examples`` does.
    """
    path, valid_path = _paths(config)
    if valid_path:
        return _dataset(config, registry, tokenizer, seq_len, valid_path, None)
    if not _holds_out(config):
        return None
    return _dataset(config, registry, tokenizer, seq_len, path, True)


def load_example_file(
    config: RunConfig, path: str, tokenizer: Tokenizer, seq_len: int, registry: Registry
) -> _Found:
    """Return all examples of a file, read as a run reads its own.

    Raises
    ------
    ConfigError, DataError
        As ``load_examples`` does.
    """
    data = config.data
    same = Path(path).suffix == Path(data.path).suffix
    if not same:  # the run's format is that of its own files
        config = config.changed("data", format="auto")
    return _dataset(config, registry, tokenizer, seq_len, path, None)


def _paths(config: RunConfig) -> tuple[str, str]:
    """Return the training path and the validation path, which may be ""."""
    if not config.data.path:
        wanted = "a file of examples, or a folder with WordNet's files"
        if config.data.name == PREFERENCES:
            wanted = "a file of prompts with two answers each"
        raise ConfigError(f"data.path: not set; name {wanted}")
    train, beside = split_files(config.data.path)
    return str(train), config.data.valid_path or ("" if beside is None else str(beside))


def _holds_out(config: RunConfig) -> bool:
    return bool(config.data.valid_fraction or config.data.options.get("valid_examples"))


def _options(config: RunConfig, registry: Registry) -> dict[str, Any]:
    """Return what the run knows beside the options of ``[data]``."""
    return {
        "valid_fraction": config.data.valid_fraction,
        "formats": installed_formats(registry),
    }


def _dataset(
    config: RunConfig,
    registry: Registry,
    tokenizer: Tokenizer,
    seq_len: int,
    path: str,
    held_out: bool | None,
) -> _Found:
    """Build the dataset of a path; the registry compares the options with its constructor."""
    taken = {"tokenizer", "seq_len", "held_out", "formats", "path"}
    for name in sorted(taken & config.data.options.keys()):
        raise ConfigError(f"data.{name}: the run knows it; leave it out")
    options = {**config.data.options, "path": path}
    known = {"tokenizer": tokenizer, "seq_len": seq_len, "held_out": held_out}
    found: _Found = registry.build(
        "dataset", Part(config.data.name, options), defaults=_options(config, registry) | known
    )
    return found


def _learning_texts(
    config: RunConfig, registry: Registry, path: str, valid_path: str
) -> Iterator[str]:
    """Yield the texts to train a tokenizer on; last, each character that only held-out texts have.

    Frequencies must not come from held-out texts; but a character that is shown once can be encoded
    by a tokenizer of characters.
    """
    make = _SOURCES[config.data.name]
    takes = inspect.signature(make).parameters
    options = {k: v for k, v in config.data.options.items() if k in takes}
    own: dict[str, Any] = options | _options(config, registry) | {"quiet": True}
    whole = make(path, **own)
    if valid_path or not _holds_out(config):
        sources = [(whole, False)]
        if valid_path:
            sources.append((make(valid_path, **own), True))
    else:
        sources = [(whole.part(held_out=False), False), (whole.part(held_out=True), True)]
    known: set[str] = set()
    for source, is_valid in sources:
        for text in _texts(source):
            if is_valid:
                new = "".join(sorted(set(text) - known))
                text = new
            known.update(text)
            if text:
                yield text


def _texts(source: RecordSource[Example | Preference]) -> Iterator[str]:
    for record in source.examples():
        if isinstance(record, Example):
            yield from record.texts
        else:
            yield from (answer.text for answer in record.answers)


def _check_alike(train: ExampleDataset, valid: ExampleDataset, path: str) -> None:
    """Refuse validation data that are scored where training data are not, or the other way."""
    if train.has_scores != valid.has_scores:
        kinds = ("without scores", "with scores")
        raise ConfigError(
            f"{path}: expected examples {kinds[train.has_scores]}, as those to train on, got some "
            f"{kinds[valid.has_scores]}; validate on examples of the same kind"
        )
