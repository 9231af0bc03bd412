"""Decoding token by token, with a cache for each layer, or with ``forward`` alone.

The next token is chosen in ``generation``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Decoder, Layer, Model
from tisslm.errors import ShapeError
from tisslm.models.head import Head
from tisslm.models.layers.embedding import Embedding

__all__ = ["ContextDecoder", "TransformerDecoder", "make_caches"]

Array = NDArray[Any]
LayerCache = Mapping[str, Array]


class Decoded(Protocol):
    """What ``TransformerDecoder`` needs of a model."""

    embedding: Embedding
    head: Head

    @property
    def seq_len(self) -> int:
        """The longest T."""

    @property
    def layers(self) -> list[Layer]:
        """The sublayers in order."""

    def last_logits(self, x: Array, caches: Sequence[LayerCache] = ()) -> Array:
        """Return the logits after the last token, filling the caches of the layers."""


def make_caches(layers: list[Layer], batch: int, context: int) -> list[LayerCache]:
    """Make the cache of each layer for B sequences of up to ``context`` tokens."""
    return [
        {name: np.zeros(b.shape, b.dtype) for name, b in layer.cache_plan(batch, context).items()}
        for layer in layers
    ]


@final
class TransformerDecoder(Decoder):
    """A decoder that keeps the keys and values of earlier tokens.

    Parameters
    ----------
    model : Decoded
        The model, such as a ``Transformer``.

    Attributes
    ----------
    length : int
        Number of tokens that the caches hold.
    """

    def __init__(self, model: Decoded) -> None:
        self.model = model
        self.length = 0
        self._caches: list[LayerCache] = []

    def prefill(self, tokens_BT: Array) -> Array:
        """Start from prompts of one length, and return the logits after them, of shape (B, V)."""
        model = self.model
        self._caches = []  # whose memory the new ones may take
        caches = make_caches(model.layers, len(tokens_BT), model.seq_len)
        logits_BV = model.last_logits(tokens_BT, caches)
        self._caches = caches
        self.length = tokens_BT.shape[1]
        return logits_BV

    @property
    def full(self) -> bool:
        """True if the context has no room for another token."""
        return self.length >= self.model.seq_len

    def step(self, ids_B: Array) -> Array:
        """Append one token to each sequence and return the logits after it, of shape (B, V)."""
        if self.full:
            raise _full(self.model.seq_len)
        model = self.model
        table_VC = model.embedding.token.data
        h_BC = np.empty((len(ids_B), table_VC.shape[1]), dtype=table_VC.dtype)
        model.embedding.embed_one(ids_B, self.length, h_BC)
        for layer, cache in zip(model.layers, self._caches, strict=True):
            layer.decode(h_BC, cache, self.length)
        self.length += 1
        return model.head.logits_of(h_BC)


@final
class ContextDecoder(Decoder):
    """A decoder for any model, which runs ``forward`` on the whole context for each token.

    It is slow, and correct whatever ``forward`` computes: a new model can write text at once by
    ``def decoder(self): return ContextDecoder(self)``.

    Parameters
    ----------
    model : Model
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._tokens_BT: Array = np.empty((0, 0), np.int64)

    def prefill(self, tokens_BT: Array) -> Array:
        """Start from prompts of one length, and return the logits after them, of shape (B, V)."""
        self._tokens_BT = np.array(tokens_BT)
        logits_BTV, _ = self.model.forward(self._tokens_BT)
        return np.ascontiguousarray(logits_BTV[:, -1])

    @property
    def full(self) -> bool:
        """True if the context has no room for another token."""
        return bool(self._tokens_BT.shape[1] >= self.model.seq_len)

    def step(self, ids_B: Array) -> Array:
        """Append one token to each sequence and return the logits after it, of shape (B, V)."""
        if self.full:
            raise _full(self.model.seq_len)
        return self.prefill(np.concatenate([self._tokens_BT, ids_B[:, None]], axis=1))


def _full(seq_len: int) -> ShapeError:
    return ShapeError(
        f"decoder: the context of {seq_len} tokens is full; prefill again with its last part"
    )
