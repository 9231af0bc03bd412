"""Decoding token by token, with the keys and values of earlier tokens kept.

What does not live here: how the next token is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.errors import ShapeError
from tisslm.layers.attention import Attention
from tisslm.layers.mlp import MLP
from tisslm.models.transformer import Transformer
from tisslm.models.transformer_config import TransformerConfig
from tisslm.observation import Direction, PassObserver

__all__ = ["Decoder"]

Array = NDArray[Any]


@final
class Decoder:
    """The state of decoding B sequences with one model.

    Parameters
    ----------
    model : Transformer

    Attributes
    ----------
    length : int
        Number of tokens that the cache holds.
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.length = 0
        self._keys: list[Array] = []
        self._values: list[Array] = []

    def prefill(self, tokens_BT: Array) -> Array:
        """Start anew from a prompt and return the logits after it, of shape (B, V)."""
        seen = _KeysAndValues(self.model.config)
        with self.model.observed(seen):
            logits, _ = self.model.forward(tokens_BT)
        self._keys, self._values = seen.keys, seen.values
        self.length = tokens_BT.shape[1]
        return np.ascontiguousarray(logits[:, -1])

    @property
    def full(self) -> bool:
        """Tell whether the context has no room for another token."""
        return self.length >= self.model.seq_len

    def step(self, ids_B: Array) -> Array:
        """Append one token to each sequence and return the logits after it, of shape (B, V)."""
        if self.full:
            raise ShapeError(
                f"decoder: the context of {self.model.seq_len} tokens is full; "
                "prefill again with its last part"
            )
        model = self.model
        h_BC = np.empty((len(ids_B), model.config.n_embd), dtype=model.dtype)
        model.embedding.embed_one(ids_B, self.length, h_BC)
        caches = iter(zip(self._keys, self._values, strict=True))
        for layer in model.layers:
            if isinstance(layer, Attention):
                layer.decode(h_BC, *next(caches), self.length)
            elif isinstance(layer, MLP):
                layer.decode(h_BC)
        self.length += 1
        return model.head.logits_of(h_BC)


class _KeysAndValues(PassObserver):
    """Keep the keys and values of each block's attention, with room for a whole context."""

    def __init__(self, config: TransformerConfig) -> None:
        self._config = config
        self.keys: list[Array] = []
        self.values: list[Array] = []

    def leave(self, place: str, direction: Direction, arrays: Mapping[str, Array]) -> None:
        if "qkv" not in arrays:
            return
        config, qkv = self._config, ops.widen(arrays["qkv"])
        batch, time, _ = qkv.shape
        shape = (batch, config.n_kv_head, config.seq_len, config.head_size)
        heads = qkv.reshape(batch, time, -1, config.head_size).transpose(0, 2, 1, 3)
        first = config.n_head
        for kept in (self.keys, self.values):
            array = np.zeros(shape, qkv.dtype)
            array[:, :, :time] = heads[:, first : first + config.n_kv_head]
            kept.append(array)
            first += config.n_kv_head
