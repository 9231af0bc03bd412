"""Tokenizers, which map text to token ids and back: bytes, characters, byte pairs."""

from __future__ import annotations

from tisslm.tokenizers.bpe import BpeTokenizer
from tisslm.tokenizers.byte import ByteTokenizer
from tisslm.tokenizers.char import CharTokenizer

__all__ = ["BpeTokenizer", "ByteTokenizer", "CharTokenizer"]
