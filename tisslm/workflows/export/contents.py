"""What the folder of an export has in its files, for a model and for an encoder of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from tisslm.config.model import TransformerConfig
from tisslm.contracts import Encoder, Network, Tokenizer
from tisslm.contracts.part_names import name_of
from tisslm.models.huggingface.exchange import exchange_of
from tisslm.models.huggingface.sentence_transformers import DENSE, LINEAR, body_of, module_files
from tisslm.models.mup import folded
from tisslm.tokenizers.huggingface import files_of_texts

__all__ = ["Contents", "TextForm", "encoder_contents", "model_contents"]

Array = NDArray[Any]

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class TextForm:
    """What an encoder makes of texts.

    Attributes
    ----------
    max_tokens : int
        Where they are cut.
    prompts : mapping of str to str
        What is written before them, for "query" and "document".
    similarity : {"cosine", "dot"}
        What says how near two vectors are.
    """

    max_tokens: int
    prompts: Mapping[str, str] = field(default_factory=dict)
    similarity: str = "cosine"


@dataclass(frozen=True)
class Contents:
    """The files of a folder.

    Attributes
    ----------
    files : mapping
        Plain values, to be written as JSON, by path.
    arrays : mapping
        Arrays by their names there, by path.
    notes : list of str
        What is not as asked for, in a sentence each.
    """

    files: Mapping[str, Any]
    arrays: Mapping[str, Mapping[str, Array]]
    notes: list[str]


def model_contents(model: Network, tokenizer: Tokenizer | None) -> Contents | None:
    """Return the files of a model; None if transformers has no class for it."""
    config, exchange = model.config, model.exchange()
    arrays: Mapping[str, Array] = model.parameters.state()
    if isinstance(config, TransformerConfig) and config.rescaled:
        plain, arrays = folded(config, arrays)
        exchange = exchange_of(plain, model.dtype)
    if exchange is None:
        return None
    files, notes = _tokenizer_files(tokenizer)
    there = exchange.outward(arrays)
    return Contents({_CONFIG: exchange.config, **files}, {_WEIGHTS: there}, notes)


def encoder_contents(
    model: Encoder, tokenizer: Tokenizer | None, texts: TextForm
) -> Contents | None:
    """Return the files of an encoder; None if transformers has no class for its body."""
    config = model.config
    exchange = None
    if isinstance(config, TransformerConfig):
        exchange = exchange_of(body_of(config))
    if exchange is None or not isinstance(config, TransformerConfig):
        return None
    files, notes = _tokenizer_files(tokenizer)
    if files and tokenizer is not None:
        begin, end = tokenizer.begin, tokenizer.end_of_text
        files = files_of_texts(files, begin=begin, end=end, max_tokens=texts.max_tokens)
    else:
        notes.append("sentence-transformers opens no folder without a tokenizer; add one")
    modules = module_files(
        config, max_tokens=texts.max_tokens, prompts=texts.prompts, similarity=texts.similarity
    )
    arrays: dict[str, Mapping[str, Array]] = {_WEIGHTS: exchange.outward(model.parameters.state())}
    if config.projection:
        projection = model.parameters["pooling.projection.weight"].data
        arrays[f"{DENSE}/{_WEIGHTS}"] = {LINEAR: projection}
    return Contents({_CONFIG: exchange.config, **files, **modules}, arrays, notes)


def _tokenizer_files(tokenizer: Tokenizer | None) -> tuple[Mapping[str, Any], list[str]]:
    files = None if tokenizer is None else tokenizer.published()
    if tokenizer is not None and files is None:
        return {}, [f"the tokenizer {name_of(tokenizer)} has no form there and is left out"]
    return files or {}, []
