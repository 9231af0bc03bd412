"""The tokenizer of a run: that of ready tokens, of the configuration, or of a checkpoint.

The texts are encoded in ``data``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tisslm.config import Part, RunConfig
from tisslm.config.aliases import note
from tisslm.config.model import FROM
from tisslm.config.precedence import DEFAULT_PARTS
from tisslm.contracts import Tokenizer
from tisslm.datasets.shard_format import state_digest
from tisslm.errors import ConfigError, DataError, NoTextError
from tisslm.registry import Registry
from tisslm.workflows.build.sources import RunSource

__all__ = [
    "NOTHING",
    "OF_MODEL",
    "Known",
    "LearnsFromTextError",
    "check_made_with",
    "learned",
    "note_other_ids",
    "run_tokenizer",
    "tokenizer_without_text",
]


class LearnsFromTextError(ConfigError):
    """The tokenizer of a configuration must be trained on text, and the dataset has none."""


#: The name in ``[tokenizer]`` of that which the model of ``model.from`` comes with.
OF_MODEL = "model"


@dataclass(frozen=True)
class Known:
    """Tokenizers that a run has without its texts.

    Attributes
    ----------
    of_model : Tokenizer or None
        That of the model that the run starts from.
    find_saved : callable
        Returns name, tokenizer and path of the checkpoint that the run resumes from, if there is
        one; called only if the configuration's tokenizer cannot be built.
    """

    of_model: Tokenizer | None = None
    find_saved: Callable[[], tuple[str, Tokenizer, Path] | None] = lambda: None


NOTHING = Known()


def run_tokenizer(
    config: RunConfig,
    sources: Iterable[RunSource],
    registry: Registry,
    known: Known = NOTHING,
) -> Tokenizer | None:
    """Return the tokenizer with which ready tokens were made, or one for the texts.

    For ready tokens that do not record their tokenizer, it is that of the configuration, unless it
    has to be trained; otherwise None.

    Parameters
    ----------
    config : RunConfig
    sources : iterable of RunSource
    registry : Registry
    known : Known

    Raises
    ------
    ConfigError
        If the configuration names another tokenizer than the ready tokens, or there is a text
        and nothing to read it with.
    DataError
        If a tokenizer cannot be built, or ready tokens were made with different ones.
    """
    sources, part = list(sources), config.tokenizer
    said = _said_tokenizer(sources, registry)
    if said is not None:
        _check_named(part, *said, registry, known)
        return said[1]
    if any(source.has_text for source in sources):
        if FROM in config.model and known.of_model is None:
            note_other_ids(config)
        return learned(part, learning_texts(sources), registry, known)
    try:
        return learned(part, iter(()), registry, known)
    except NoTextError:
        _refuse_text(part, sources)
        return None


def note_other_ids(config: RunConfig) -> None:
    """Note that nobody has chosen the tokenizer of a model that has come without one."""
    if not any(key.startswith("tokenizer.") for key in config.said):
        note(
            f"{config.model[FROM]} has no tokenizer, so that of the run is "
            f"{config.tokenizer.name!r}, whose ids its weights do not know; put its tokenizer.json "
            'into the folder, or name it: tokenizer.name = "bpe" with its path'
        )


def tokenizer_without_text(
    config: RunConfig, registry: Registry, known: Known = NOTHING
) -> Tokenizer:
    """Return the configuration's tokenizer, which must not need training on text.

    Raises
    ------
    LearnsFromTextError
        If it must be trained.
    DataError
        If it cannot be built.
    """
    try:
        return learned(config.tokenizer, iter(()), registry, known)
    except NoTextError as error:
        raise LearnsFromTextError(
            f"tokenizer.name: {config.tokenizer.name!r} learns from a text, which the dataset "
            f"{config.data.name!r} does not give; choose byte, or bpe with a path"
        ) from error


def check_made_with(sources: Iterable[RunSource], tokenizer: Tokenizer) -> None:
    """Raise an error for ready tokens that were made with another tokenizer.

    Raises
    ------
    DataError
        If any was.
    """
    for source in sources:
        for path, name, state in source.said_tokenizers():
            expected, found = state_digest(name, tokenizer.state()), state_digest(name, state)
            if found != expected:
                raise DataError(
                    f"{path}: its ids are of the {name} tokenizer {found[:12]}, those of the model "
                    f"of another, {expected[:12]}; tokenize the text again with the model's"
                )


# --------------------------------------------------------------------------- what ready tokens say


def _said_tokenizer(
    sources: Iterable[RunSource], registry: Registry
) -> tuple[str, Tokenizer] | None:
    """Return the tokenizer with which all ready tokens were made, and a name for it.

    Raises
    ------
    DataError
        If two of them were made with different ones.
    """
    found: dict[str, tuple[str, str, Mapping[str, Any]]] = {}
    for source in sources:
        for path, name, state in source.said_tokenizers():
            found.setdefault(state_digest(name, state), (path, name, state))
    if not found:
        return None
    (digest, (path, name, state)), *others = found.items()
    if others:
        other, (other_path, other_name, _) = others[0]
        raise DataError(
            f"{other_path}: its ids are of the {other_name} tokenizer {other[:12]}, those of "
            f"{path} of the {name} tokenizer {digest[:12]}; tokenize both with one tokenizer"
        )
    made: Tokenizer = registry.get("tokenizer", name).from_state(state)
    return f"{path}: its ids are of the {name} tokenizer {digest[:12]}", made


def _check_named(
    named: Part, said: str, made: Tokenizer, registry: Registry, known: Known
) -> None:
    """Raise an error if the configuration names another tokenizer than made the ready tokens.

    Raises
    ------
    ConfigError
        If the configuration names another.
    """
    if named == Part(DEFAULT_PARTS["tokenizer"], {}):
        return
    try:
        own = learned(named, iter(()), registry, known)
    except NoTextError:
        own = None
    if own is not None and type(own) is type(made) and own.state() == made.state():
        return
    which = "" if own is None else f" {state_digest(named.name, own.state())[:12]}"
    raise ConfigError(
        f"tokenizer: {said}, and the configuration names the {named.name} tokenizer{which}; leave "
        "[tokenizer] out, or tokenize the text again with this one"
    )


def _refuse_text(part: Part, sources: Iterable[RunSource]) -> None:
    """Raise an error for validation text beside ready tokens whose tokenizer is unknown."""
    for source in sources:
        if source.valid is not None and source.valid.has_text:
            raise ConfigError(
                f"{source.valid.path}: a text to validate on cannot be read without a tokenizer, "
                f"and the ready tokens of {source.train.path} say none; the configuration's, "
                f"{part.name}, learns from a text to train on, of which there is none. Set "
                "[tokenizer] to the one that made the tokens (bpe with a path, byte), or "
                "data.valid_path to ready tokens"
            )


# --------------------------------------------------------------------------- what texts teach


def learning_texts(sources: Iterable[RunSource]) -> Iterator[str]:
    """Yield the texts to train a tokenizer on; last, each character that only held-out texts have.

    Frequencies must not come from held-out text; but a character that is shown once can be encoded
    by a tokenizer of characters.
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


def _of_model(part: Part, known: Known) -> Tokenizer:
    """Return the tokenizer of the model that a run starts from."""
    if known.of_model is None:
        raise ConfigError(
            f'tokenizer.name: "{OF_MODEL}" is the tokenizer of the model that model.from names, of '
            "which there is none; set model.from, or name another tokenizer"
        )
    if part.options:
        raise ConfigError(
            f"tokenizer.{next(iter(part.options))}: the tokenizer of the model takes no options; "
            "leave it out"
        )
    return known.of_model


class _Texts:
    """An iterable of texts that records whether it was iterated."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts = texts
        self.asked = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.asked = True
        return next(self._texts)


def learned(
    part: Part, texts: Iterator[str], registry: Registry, known: Known
) -> Tokenizer:
    """Train a tokenizer on texts, or take the checkpoint's if its sources are gone."""
    if part.name == OF_MODEL:
        return _of_model(part, known)
    asked = _Texts(texts)
    try:
        return _built(part, asked, registry)
    except NoTextError:
        raise
    except DataError as error:
        path = part.options.get("path")
        there = isinstance(path, str) and Path(path).exists()
        saved = None if asked.asked or there else known.find_saved()
        if saved is None or saved[0] != part.name:
            raise
        note(f"{error}. The run goes on with the tokenizer of {saved[2]}")
        return saved[1]


def _built(part: Part, texts: _Texts, registry: Registry) -> Tokenizer:
    """Build a tokenizer; the texts are read only if it is trained on them."""
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
