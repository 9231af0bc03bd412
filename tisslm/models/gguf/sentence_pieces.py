"""Vocabularies of SentencePiece, as those of Llama 2 and Mistral are, in the form of byte pairs.

A file has a score for each token, and none of the pairs that were merged. They follow: a token is
made of any two others that together spell it, and those of higher scores are merged first. What no
token spells is spelled by tokens for bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tisslm.models.gguf.metadata import Keys

__all__ = ["sentence_pieces"]

_SPACE = "\u2581"
_NORMAL, _UNKNOWN = 1, 2

#: The most characters of all tokens together: every place within a token is tried.
_MOST_CHARACTERS = 2**22


def sentence_pieces(keys: Keys, tokens: Sequence[str], kinds: Sequence[int]) -> dict[str, Any]:
    """Return the parts of a tokenizer.json.

    Parameters
    ----------
    keys : Keys
        Those of ``tokenizer``.
    tokens : sequence of str
    kinds : sequence of int
        ``llama_token_type`` of each.

    Raises
    ------
    TissLMError
        If there are no scores, or tokens that are too long to be taken apart.
    """
    scores = keys.numbers("ggml.scores", len(tokens))
    if scores is None:
        raise keys.refused("tokenizer.ggml.scores: expected a number for each token, got none")
    if sum(map(len, tokens)) > _MOST_CHARACTERS or any(map(math.isnan, scores)):
        raise keys.refused(
            f"tokenizer.ggml.tokens: expected at most {_MOST_CHARACTERS} characters of tokens, and "
            "scores that are numbers, got others"
        )
    ids = {token: i for i, token in enumerate(tokens)}
    merged = {t: s for t, s, kind in zip(tokens, scores, kinds, strict=True) if kind == _NORMAL}
    unknown = next((t for t, kind in zip(tokens, kinds, strict=True) if kind == _UNKNOWN), None)
    begins = keys.flag("ggml.add_space_prefix", True)
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    before = [{"type": "Prepend", "prepend": _SPACE}] if begins else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if begins else []
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*before, spaces]},
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": ids,
            "merges": _merges(merged, ids),
        },
    }


def _merges(scores: Mapping[str, float], ids: Mapping[str, int]) -> list[list[str]]:
    """Return all pairs that make a token, in the order in which they are merged."""
    found: list[tuple[float, int, int, int]] = []
    for token, score in scores.items():
        pairs = [
            (-score, ids[token[:at]], ids[token[at:]])
            for at in range(1, len(token))
            if token[:at] in ids and token[at:] in ids
        ]
        found.extend((first, ids[token], left, right) for first, left, right in sorted(pairs))
    found.sort(key=lambda one: one[0])  # stable: of equal scores, in the order of the tokens
    names = list(ids)
    return [[names[left], names[right]] for _, _, left, right in found]
