"""The number of bytes of each token in a byte-level vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tokenizers

__all__ = ["token_bytes"]


def token_bytes(
    inner: tokenizers.Tokenizer, description: Mapping[str, Any], marks: Iterable[int]
) -> NDArray[Any]:
    """Return the number of bytes of every id; an empty array if tokens are not byte-level.

    A byte-level vocabulary writes each byte as one character; a token with any other character
    stands for its own UTF-8 form, which is how the library decodes it.

    Parameters
    ----------
    inner : tokenizers.Tokenizer
    description : mapping
        The content of its tokenizer.json.
    marks : iterable of int
        The ids that count no bytes: those around a text.

    Returns
    -------
    ndarray of shape (V,), int32
        0 for ids that no token has. Of shape (0,) where tokens are not byte-level.
    """
    from tokenizers import pre_tokenizers

    if (description.get("decoder") or {}).get("type") != "ByteLevel":
        return np.empty(0, dtype=np.int32)
    alphabet = frozenset(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = inner.get_vocab(with_added_tokens=True)
    lengths_V = np.zeros(max(vocabulary.values()) + 1, dtype=np.int32)
    for token, number in vocabulary.items():
        lengths_V[number] = len(token) if alphabet.issuperset(token) else len(token.encode())
    lengths_V[list(marks)] = 0
    return lengths_V
