"""The content of a tokenizer.json for tokenizers that are no library's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["BYTES", "BYTE_LEVEL", "ONE_BY_ONE", "tokenizer_json"]


def _bytes() -> str:
    """Return the character that a byte-level vocabulary writes for each byte, as GPT-2 has it.

    Bytes that are printable in Latin-1 stand for themselves; the others follow from U+0100 on.
    """
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in shown else next(others)) for byte in range(256))


#: The characters of the bytes 0 to 255.
BYTES = _bytes()

BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}

#: A splitting of a text into its characters, line ends among them.
ONE_BY_ONE = {
    "type": "Split",
    "pattern": {"Regex": "(?m:.)"},
    "behavior": "Isolated",
    "invert": False,
}


def tokenizer_json(
    model: Mapping[str, Any], *, splitting: Mapping[str, Any], joining: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of a tokenizer.json without added tokens.

    Parameters
    ----------
    model : mapping
        The vocabulary, and what turns a word into ids.
    splitting : mapping
        The pre-tokenizer, which finds the words.
    joining : mapping
        The decoder.
    """
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": dict(splitting),
        "post_processor": None,
        "decoder": dict(joining),
        "model": dict(model),
    }
