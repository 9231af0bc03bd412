"""Decoding token by token, with a cache for each layer, or with ``forward`` alone.

The next token is chosen in ``generation``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Decoder, Layer, Model
from tisslm.errors import ConfigError, ShapeError
from tisslm.models.body.body import Body
from tisslm.models.head import Head

__all__ = ["ContextDecoder", "TransformerDecoder", "make_caches"]

Array = NDArray[Any]
LayerCache = Mapping[str, Array]


class Decoded(Protocol):
    """What ``TransformerDecoder`` needs of a model."""

    body: Body
    head: Head

    @property
    def seq_len(self) -> int:
        """The longest T."""

    @property
    def layers(self) -> list[Layer]:
        """The sublayers in order."""

    def last_logits(
        self, x: Array, caches: Sequence[LayerCache] = (), lengths_B: Array | None = None
    ) -> Array:
        """Return the logits after the last token of each row, filling the caches of the layers."""


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
    lengths_B : ndarray of int32 of shape (B,)
        Number of tokens that the caches hold of each sequence.

    Notes
    -----
    What a sequence gets does not depend on those beside it: sums of a decoded token have one order
    for any B, and sequences share no position.
    """

    def __init__(self, model: Decoded) -> None:
        self.model = model
        self.lengths_B: Array = np.zeros(0, np.int32)
        self._caches: list[LayerCache] = []
        self._pace = ops.Pace()

    def prefill(self, tokens_BT: Array, lengths_B: Array | None = None) -> Array:
        """Start from B prompts, and return the logits after them, of shape (B, V)."""
        model, lengths = self.model, lengths_of(tokens_BT, lengths_B)
        self._caches = []  # whose memory the new ones may take
        caches = make_caches(model.layers, len(tokens_BT), model.seq_len)
        logits_BV = model.last_logits(tokens_BT, caches, lengths)
        self._caches = caches
        self.lengths_B = lengths
        return logits_BV

    def restart(self, row: int, tokens_T: Array) -> Array:
        """Start one sequence anew, and return the logits after it, of shape (V,)."""
        one = slice(row, row + 1)
        caches = [{name: array[one] for name, array in cache.items()} for cache in self._caches]
        logits_1V = self.model.last_logits(np.asarray(tokens_T)[None], caches)
        self.lengths_B[row] = len(tokens_T)
        return np.asarray(logits_1V[0])

    @property
    def full_B(self) -> Array:
        """Which sequences have no room for another token."""
        return np.asarray(self.lengths_B >= self.model.seq_len)

    def step(self, ids_B: Array) -> Array:
        """Append one token to each sequence and return the logits after it, of shape (B, V)."""
        model, going_B = self.model, np.asarray(ids_B) >= 0
        if (self.full_B & going_B).any():
            raise _full(model.seq_len)
        with self._pace.step():
            logits_BV = self._logits(np.where(going_B, ids_B, 0))
        self.lengths_B = self.lengths_B + going_B.astype(np.int32)
        return logits_BV

    def _logits(self, ids_B: Array) -> Array:
        """Run one token of each sequence through all layers."""
        model = self.model
        # a sequence that has ended computes something in its last place, and keeps its length
        position_B = np.minimum(self.lengths_B, model.seq_len - 1)
        h_BC = model.body.embedding.embed_one(ids_B, position_B)
        for layer, cache in zip(model.layers, self._caches, strict=True):
            layer.decode(h_BC, cache, position_B)
        return model.head.logits_of(model.body.stack.final_norm.apply(h_BC))


@final
class ContextDecoder(Decoder):
    """A decoder for any model, which runs ``forward`` on the whole context for each token.

    It is slow, and correct whatever ``forward`` computes: a new model can write text at once by
    ``def decoder(self, weights="fp32"): return ContextDecoder(self, weights)``.

    Parameters
    ----------
    model : Model
    weights : {"fp32"}
        What ``Model.decoder`` was asked for: ``forward`` has the parameters and no copy.

    Raises
    ------
    ConfigError
        For other weights.
    """

    def __init__(self, model: Model, weights: str = "fp32") -> None:
        if weights != "fp32":
            raise ConfigError(
                f"decoder of {type(model).__name__}: it reads the parameters as they are, weights="
                f'"fp32", and was asked for {weights!r}'
            )
        self.model = model
        self._rows: list[Array] = []

    def prefill(self, tokens_BT: Array, lengths_B: Array | None = None) -> Array:
        """Start from B prompts, and return the logits after them, of shape (B, V)."""
        lengths = lengths_of(tokens_BT, lengths_B)
        self._rows = [np.array(row[:n]) for row, n in zip(tokens_BT, lengths, strict=True)]
        return self._last()

    def restart(self, row: int, tokens_T: Array) -> Array:
        """Start one sequence anew, and return the logits after it, of shape (V,)."""
        self._rows[row] = np.array(tokens_T)
        logits_1TV, _ = self.model.forward(self._rows[row][None])
        return np.array(logits_1TV[0, -1])

    @property
    def full_B(self) -> Array:
        """Which sequences have no room for another token."""
        return np.array([len(row) >= self.model.seq_len for row in self._rows])

    def step(self, ids_B: Array) -> Array:
        """Append one token to each sequence and return the logits after it, of shape (B, V)."""
        if (self.full_B & (np.asarray(ids_B) >= 0)).any():
            raise _full(self.model.seq_len)
        self._rows = [
            row if i < 0 else np.append(row, i) for row, i in zip(self._rows, ids_B, strict=True)
        ]
        return self._last()

    def _last(self) -> Array:
        """Return the logits after the last token of each row, which are padded to one length."""
        lengths = np.array([len(row) for row in self._rows])
        tokens_BT = np.zeros((len(lengths), lengths.max()), np.int64)
        for tokens, row in zip(tokens_BT, self._rows, strict=True):
            tokens[: len(row)] = row
        logits_BTV, _ = self.model.forward(tokens_BT)
        return np.asarray(logits_BTV[np.arange(len(lengths)), lengths - 1])


def lengths_of(tokens_BT: Array, lengths_B: Array | None) -> Array:
    """Return the tokens of each row in a new array of int32, checked; None: T in each.

    Raises
    ------
    ShapeError
        If there is not a length from 1 to T for each row.
    """
    batch, time = tokens_BT.shape
    if lengths_B is None:
        return np.full(batch, time, np.int32)
    lengths = np.array(lengths_B, np.int32)
    if lengths.shape != (batch,) or (batch and not 1 <= lengths.min() <= lengths.max() <= time):
        raise ShapeError(
            f"decoder: lengths: expected {batch} numbers of tokens from 1 to {time}, got "
            f"{np.asarray(lengths_B).tolist()}; tokens of a row come first, padding after them"
        )
    return lengths


def _full(seq_len: int) -> ShapeError:
    return ShapeError(
        f"decoder: the context of {seq_len} tokens is full; restart it with its last part"
    )
