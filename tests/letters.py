"""An encoder for tests, whose vectors are known: the vector of a text counts its letters."""

from __future__ import annotations

from typing import Any

import numpy as np

from tisslm.contracts import Encoder, TextBatch
from tisslm.memory import Parameters
from tisslm.memory.parameters import ParameterSpec

__all__ = ["Letters"]


class Letters(Encoder):
    """How many of a, b, ..., f a text of bytes has; it keeps what it has seen, pass by pass."""

    vocab_size, seq_len = 256, 32
    embedding_size = 6

    def __init__(self) -> None:
        self.parameters = Parameters([ParameterSpec("w", (1,))], "float32")
        self.passes: list[list[bytes]] = []

    @property
    def seen(self) -> list[bytes]:
        """The texts of all passes."""
        return [text for texts in self.passes for text in texts]

    def embed(
        self, texts: TextBatch, *, train: bool = False, gradient: bool = False, first_row: int = 0
    ) -> tuple[Any, Any]:
        """Count the letters."""
        flat = texts.x_BT.reshape(-1)
        places = zip(texts.first_P, texts.stop_P, strict=True)
        found = [bytes(flat[first:stop].tolist()) for first, stop in places]
        self.passes.append(found)
        counts = [[text.count(letter) for letter in b"abcdef"] for text in found]
        return np.array(counts, np.float32), None

    def backward_embedded(self, d_embeddings_PE: Any, cache: Any) -> None:
        """Nothing is learned."""
        raise NotImplementedError
