"""The files of a tokenizer whose texts are embedded: each between the ids that ours puts around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tisslm.tokenizers.huggingface.post_processor import with_around

__all__ = ["files_of_texts"]

Files = Mapping[str, Mapping[str, Any]]


def files_of_texts(
    files: Files, *, begin: tuple[int, ...], end: int | None, max_tokens: int
) -> dict[str, Mapping[str, Any]]:
    """Return published files, changed so that a text gets the ids that an encoder is trained on.

    Parameters
    ----------
    files : mapping
        What ``Tokenizer.published`` returned.
    begin : tuple of int
        The ids before every text.
    end : int or None
        The id after it.
    max_tokens : int
        Where texts are cut, those ids included.

    Returns
    -------
    dict
        ``generation_config.json`` is left out: nothing is generated.
    """
    content, config = files["tokenizer.json"], dict(files["tokenizer_config.json"])
    known = _vocabulary(content)
    names = {number: name for name, number in known.items()}
    after = () if end is None else (end,)
    content = with_around(content, {names[i]: i for i in begin}, {names[i]: i for i in after})
    config.setdefault("pad_token", config.get("eos_token") or _unlikely(known))
    config["model_max_length"] = max_tokens
    return {"tokenizer.json": content, "tokenizer_config.json": config}


def _vocabulary(content: Mapping[str, Any]) -> dict[str, int]:
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
    return {**content["model"]["vocab"], **added}


def _unlikely(vocabulary: Mapping[str, int]) -> str:
    """Return what to fill batches up with, where a tokenizer has no token for that.

    Libraries look for it in a text before all others, so its name should be in none. Names of
    byte-level tokens have a letter for each byte; with several, some beyond ASCII, they are no
    words. Of single bytes it is the kra of old Greenlandic, and of characters any will do.
    """

    def rank(name: str) -> tuple[bool, int, int, bool]:
        odd = sum(letter > "\x7f" for letter in name)
        return odd > 0 and len(name) > 1, odd, len(name), name == "\u0138"

    return max(vocabulary, key=rank)
