"""The byte tokenizer: one token for each byte of a text's UTF-8 encoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Tokenizer
from tisslm.tokenizers.checks import id_array, utf8_bytes
from tisslm.tokenizers.cuts import anywhere
from tisslm.tokenizers.huggingface import BYTE_LEVEL, BYTES, published_files, tokenizer_json

__all__ = ["ByteTokenizer"]


class ByteTokenizer(Tokenizer):
    """A tokenizer whose ids are the 256 bytes; it has no options.

    Bytes that are not valid UTF-8, as a model may sample them, decode to U+FFFD.
    """

    @property
    def vocab_size(self) -> int:
        """Number of ids: 256."""
        return 256

    def encode(self, text: str) -> list[int]:
        """Encode a text to the list of its UTF-8 bytes.

        Raises
        ------
        DataError
            If the text has a lone surrogate.
        """
        return list(utf8_bytes(text, "byte tokenizer"))

    def encode_array(self, text: str) -> NDArray[Any]:
        """Encode a text to a read-only uint8 array of shape (n,), its UTF-8 bytes."""
        return np.frombuffer(utf8_bytes(text, "byte tokenizer"), dtype=np.uint8)

    def count_bytes(self, ids: NDArray[Any]) -> int:
        """Return the number of ids: each stands for one byte."""
        return int(ids.size)

    def find_cut(self, text: str, start: int) -> int:
        """Return the first place to cut from ``start`` on: characters are encoded independently."""
        return anywhere(text, start)

    def decode(self, ids: Sequence[int]) -> str:
        """Decode bytes to text, with U+FFFD where they are not valid UTF-8.

        Raises
        ------
        DataError
            If an id is not in ``range(256)``.
        """
        values = id_array(ids, self.vocab_size, "byte tokenizer")
        return values.astype(np.uint8).tobytes().decode("utf-8", errors="replace")

    def state(self) -> dict[str, Any]:
        """Return an empty state: every byte tokenizer is the same."""
        return {}

    def published(self) -> dict[str, Mapping[str, Any]]:
        """Return it as a byte-level tokenizer without merges, whose ids are the bytes."""
        return published_files(
            tokenizer_json(
                {"type": "BPE", "vocab": {byte: i for i, byte in enumerate(BYTES)}, "merges": []},
                splitting={**BYTE_LEVEL, "use_regex": False},
                joining=BYTE_LEVEL,
            )
        )

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ByteTokenizer:
        """Build the tokenizer."""
        return cls()
