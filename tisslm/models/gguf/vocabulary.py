"""The tokenizer in a GGUF file, as the state of our byte-pair tokenizer, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tisslm.models.gguf.metadata import Keys
from tisslm.models.gguf.pre_tokenizers import PRE_TOKENIZERS
from tisslm.models.gguf.sentence_pieces import sentence_pieces
from tisslm.system.safe_files import show

__all__ = ["CONTROL", "ENDS", "NORMAL", "ROLES", "UNUSED", "USER_DEFINED", "read_vocabulary"]

#: Types of tokens, as llama.cpp's ``llama_token_type`` numbers them.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

#: What a file says that takes ids alone.
_NO_VOCABULARY = "no_vocab"

#: The most tokens: the tokenizers library makes tables of this length.
_MOST_TOKENS = 2**22

#: Roles of tokens in a tokenizer_config.json, by the keys of GGUF.
ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "pad_token": "padding_token_id",
    "unk_token": "unknown_token_id",
}

#: Tokens at which a text ends.
ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")

_BYTE_DECODER = {
    "type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True,
}  # fmt: skip


def read_vocabulary(keys: Keys) -> dict[str, Any] | None:
    """Return the state of a bpe tokenizer, ``{"tokenizer": ..., "config": ...}``, or None.

    Parameters
    ----------
    keys : Keys
        Those of ``tokenizer``.

    Raises
    ------
    TissLMError
        If the vocabulary is of a kind, or its texts are split in a way, that is not known here.
    """
    model = keys.text("ggml.model", _NO_VOCABULARY)
    if model == _NO_VOCABULARY:
        return None
    if model not in ("gpt2", "llama"):
        raise keys.refused(
            f"tokenizer.ggml.model: expected gpt2 or llama, got {show(model)}, whose tokens are "
            "made in a way that is not known here"
        )
    tokens = keys.texts("ggml.tokens")
    if not 1 <= len(tokens) < _MOST_TOKENS or len(set(tokens)) != len(tokens):
        raise keys.refused("tokenizer.ggml.tokens: expected different tokens, got some twice")
    kinds = keys.numbers("ggml.token_type", len(tokens)) or [NORMAL] * len(tokens)
    if model == "gpt2":
        tokenizer, begins = _byte_pairs(keys, tokens, kinds)
    else:
        tokenizer, begins = sentence_pieces(keys, tokens, kinds), True
    config = _config(keys, tokens, kinds, begins)
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens, kinds),
        **tokenizer,
        "post_processor": _put_before(config.get("begin", ()), tokens),
    }
    return {"tokenizer": tokenizer} | ({"config": config} if config else {})


def _byte_pairs(
    keys: Keys, tokens: Sequence[str], kinds: Sequence[int]
) -> tuple[dict[str, Any], bool]:
    """Return the parts of a tokenizer.json over bytes, and whether texts begin with a token."""
    name = keys.text("ggml.pre", "default")
    if name not in PRE_TOKENIZERS:
        raise keys.refused(
            f"tokenizer.ggml.pre: expected a way to split texts of {', '.join(PRE_TOKENIZERS)}, "
            f"got {show(name)}, which is not known here"
        )
    pre, merges = PRE_TOKENIZERS[name], keys.texts("ggml.merges", [])
    vocabulary = {
        token: i
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind != UNUSED
    }
    pairs = [merge.split(" ") for merge in merges]
    for pair in pairs:
        if (
            len(pair) != 2
            or pair[0] + pair[1] not in vocabulary
            or not vocabulary.keys() >= {*pair}
        ):
            raise keys.refused(
                f"tokenizer.ggml.merges: expected two tokens that make a third, got "
                f"{show(' '.join(pair))}"
            )
    return {
        "normalizer": {"type": pre.normalizer} if pre.normalizer else None,
        "pre_tokenizer": pre.splitting,
        "decoder": _BYTE_DECODER,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre.ignore_merges,
            "vocab": vocabulary,
            "merges": merges,
        },
    }, pre.begins


def _added(tokens: Sequence[str], kinds: Sequence[int]) -> list[dict[str, Any]]:
    """Return the tokens that are found in a text before it is split."""
    return [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind != USER_DEFINED,
        }
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]


def _config(
    keys: Keys, tokens: Sequence[str], kinds: Sequence[int], begins: bool
) -> dict[str, Any]:
    """Return what a tokenizer_config.json says; what is absent is left out."""
    ids = {
        key: keys.count(f"ggml.{key}", least=0)
        for key in {*ROLES.values(), *ENDS}
        if f"ggml.{key}" in keys
    }
    for key, number in ids.items():
        if number >= len(tokens):
            raise keys.refused(
                f"tokenizer.ggml.{key}: expected an id below {len(tokens)}, the number of tokens, "
                f"got {number}"
            )
    ids = {key: number for key, number in ids.items() if kinds[number] != UNUSED}
    found: dict[str, Any] = {role: tokens[ids[key]] for role, key in ROLES.items() if key in ids}
    if ends := list(dict.fromkeys(ids[key] for key in ENDS if key in ids)):
        found["ends"] = ends
    if keys.flag("ggml.add_bos_token", begins) and "bos_token_id" in ids:
        found["begin"] = [ids["bos_token_id"]]
    if "chat_template" in keys:
        found["chat_template"] = keys.text("chat_template")
    return found


def _put_before(begin: Sequence[int], tokens: Sequence[str]) -> dict[str, Any] | None:
    """Return the step that puts tokens before a text."""
    if not begin:
        return None
    names = [tokens[i] for i in begin]
    first = [{"SpecialToken": {"id": name, "type_id": 0}} for name in names]
    text = [{"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB")]
    return {
        "type": "TemplateProcessing",
        "single": [*first, text[0]],
        "pair": [*first, text[0], *first, text[1]],
        "special_tokens": {
            name: {"id": name, "ids": [i], "tokens": [name]}
            for i, name in zip(begin, names, strict=True)
        },
    }
