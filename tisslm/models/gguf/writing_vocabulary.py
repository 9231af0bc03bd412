"""A tokenizer as the metadata of a GGUF file: what ``vocabulary`` reads, written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tisslm.contracts import Tokenizer
from tisslm.contracts.part_names import name_of
from tisslm.errors import ConfigError
from tisslm.models.gguf.pre_tokenizers import PRE_TOKENIZERS, pre_of
from tisslm.models.gguf.vocabulary import CONTROL, ENDS, NORMAL, ROLES, UNUSED, USER_DEFINED

__all__ = ["vocabulary_keys"]

#: Bytes that no text has in UTF-8.
_NEVER = (*range(0xC0, 0xC2), *range(0xF5, 0x100))

#: The name of a way to split where none changes an id, since nothing is merged.
_PLAIN = "gpt-2"


def vocabulary_keys(tokenizer: Tokenizer | None, vocab_size: int) -> dict[str, Any]:
    """Return the keys under ``tokenizer``, with this prefix.

    llama.cpp takes the 12th token as the end of a text where a file names none. So it is named
    always: with a tokenizer that has none, a token that no text has.

    Parameters
    ----------
    tokenizer : Tokenizer, optional
        Of byte pairs over bytes, or of bytes. None: a file that only takes ids.
    vocab_size : int
        The model's, which may be more than the tokenizer's.

    Raises
    ------
    ConfigError
        If it is of another kind, or splits texts in a way that has no name in GGUF.
    """
    if tokenizer is None:
        return {"tokenizer.ggml.model": "no_vocab"}
    state, merges = tokenizer.state(), list[str]()
    content = state.get("tokenizer")
    if not state and tokenizer.vocab_size == len(_byte_characters()):
        tokens, kinds, pre = list(_byte_characters()), [NORMAL] * 256, _PLAIN
    elif isinstance(content, Mapping):
        tokens, kinds, merges, pre = _byte_pairs(content)
    else:
        raise ConfigError(
            f"GGUF: expected a tokenizer of byte pairs or bytes, got {name_of(tokenizer)}, "
            "for whose tokens the format has no form; export with --format hf instead"
        )
    if len(tokens) > vocab_size:
        raise ConfigError(
            f"GGUF: expected a tokenizer of at most {vocab_size} ids, the vocabulary of the model, "
            f"got one of {len(tokens)}; give the tokenizer that it was trained with"
        )
    missing = range(len(tokens), vocab_size)
    tokens, kinds = [*tokens, *(f"[PAD{i}]" for i in missing)], [*kinds, *(UNUSED for _ in missing)]
    config = state.get("config") or {}
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.merges": merges,
        **_special(config, tokens, kinds, tokenizer.end_of_text),
        "tokenizer.ggml.add_bos_token": bool(config.get("begin")),
        "tokenizer.ggml.add_space_prefix": False,
        **{f"tokenizer.{k}": config[k] for k in ("chat_template",) if config.get(k)},
    }


def _byte_pairs(content: Mapping[str, Any]) -> tuple[list[str], list[int], list[str], str]:
    """Return tokens, their types, merges, and the name of the way to split."""
    model = content.get("model") or {}
    pre = None
    if model.get("type") == "BPE":
        pre = pre_of(content) or (_PLAIN if _only_bytes(content) else None)
    if pre is None or (content.get("decoder") or {}).get("type") != "ByteLevel":
        raise ConfigError(
            "GGUF: expected a tokenizer of byte pairs over bytes that splits texts in a way that "
            f"has a name there ({', '.join(PRE_TOKENIZERS)}), got another one; export with "
            "--format hf instead"
        )
    named = {i: (token, NORMAL) for token, i in model["vocab"].items()}
    for token in content.get("added_tokens", ()):
        kind = CONTROL if token.get("special") else USER_DEFINED
        named[token["id"]] = (token["content"], kind)
    found = [named.get(i, (f"[PAD{i}]", UNUSED)) for i in range(max(named) + 1)]
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    return [token for token, _ in found], [kind for _, kind in found], merges, pre


def _only_bytes(content: Mapping[str, Any]) -> bool:
    """Return True for a vocabulary without merges, as the byte tokenizer is in a folder."""
    splitting = content.get("pre_tokenizer") or {}
    return (
        not content["model"].get("merges")
        and content.get("normalizer") is None
        and splitting.get("type") == "ByteLevel"
        and not splitting.get("add_prefix_space")
    )


def _special(
    config: Mapping[str, Any], tokens: Sequence[str], kinds: Sequence[int], end: int | None
) -> dict[str, int]:
    """Return the ids of tokens with a role."""
    ids = {token: i for i, token in enumerate(tokens)}
    found = {key: ids[config[role]] for role, key in ROLES.items() if config.get(role) in ids}
    ends = list(config.get("ends") or ([] if end is None else [end]))
    first = found.get("eos_token_id", ends[0] if ends else None)
    if first is None:
        first = _never(tokens, kinds)
    others = [i for i in ends if i != first]
    found |= dict(zip(ENDS, [first, *others], strict=False))
    found.setdefault("bos_token_id", (config.get("begin") or [first])[0])
    return {f"tokenizer.ggml.{key}": i for key, i in found.items()}


def _never(tokens: Sequence[str], kinds: Sequence[int]) -> int:
    """Return the id of a token that no text has."""
    if UNUSED in kinds:
        return list(kinds).index(UNUSED)
    characters = _byte_characters()
    for byte in reversed(_NEVER):
        if characters[byte] in tokens:
            return list(tokens).index(characters[byte])
    raise ConfigError(
        "GGUF: expected a tokenizer with a token that ends a text, or one for each byte, got "
        "another one, of which llama.cpp would take the 12th token for the end; give it an end "
        "token"
    )


def _byte_characters() -> str:
    """Return the character that stands for each of the 256 bytes in a byte-level vocabulary.

    Those that are seen stand for themselves, the others are numbered from U+0100 on.
    """
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in seen else next(others)) for byte in range(256))
