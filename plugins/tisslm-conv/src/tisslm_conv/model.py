"""The causal convolution model, with a hand-written forward and backward in NumPy."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Batch, Decoder, Loss, Model, chunk_rows
from tisslm.errors import ShapeError
from tisslm.memory import Parameters
from tisslm.models.decoding import ContextDecoder
from tisslm_conv.config import ConvConfig

__all__ = ["ConvModel"]

Array = NDArray[Any]


class Cache(NamedTuple):
    """What backward needs: the number of the forward, the tokens, each layer's input and output."""

    number: int
    tokens: Array
    inputs: list[Array]
    outputs: list[Array]
    last: Array


@final
class ConvModel(Model):
    """Dilated causal convolutions between two uses of one embedding.

        h_0[t] = E[x_t]
        h_{l+1}[t] = h_l[t] + tanh(h_l[t] A_l + h_l[t - 2^l] B_l + b_l)
        logits[t] = h_L[t] E^T

    Parameters
    ----------
    config : ConvConfig
    seed : int
        Seed of the initial values.
    parameters : Parameters
        The parameters that the family specifies.

    References
    ----------
    A. van den Oord et al., "WaveNet: A Generative Model for Raw Audio", arXiv 1609.03499.
    """

    family = "causal_conv"
    writes_text = True
    asks_for_values = True

    def __init__(self, config: ConvConfig, seed: int, parameters: Parameters) -> None:
        self.config: ConvConfig = config
        self.seed: int = seed
        self.parameters = parameters
        self._number = 0

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids."""
        return self.config.vocab_size

    @property
    def seq_len(self) -> int:
        """The longest T."""
        return self.config.seq_len

    @property
    def layer_names(self) -> list[str]:
        """The names of the layers, which are those of their parameters."""
        return [f"layers.{i}" for i in range(self.config.n_layer)]

    def flops_per_token(self, time: int) -> int:
        """Count 6 operations per parameter, for forward and backward."""
        return 6 * self.parameters.count

    def plan(
        self,
        batch: int,
        time: int,
        *,
        precision: str | None = None,
        activation_checkpointing: str | None = None,
    ) -> dict[str, int]:
        """Return the bytes that a pass keeps: each layer's input and output, and the logits."""
        item = self.parameters.dtype.itemsize
        rows = batch * time
        kept = {
            f"layers.{i}.{name}": rows * self.config.n_embd * item
            for i in range(self.config.n_layer)
            for name in ("input", "output")
        }
        return {**kept, "logits": rows * self.config.vocab_size * item}

    def decoder(self, weights: str = "fp32") -> Decoder:
        """Return a decoder that runs ``forward`` on the whole context."""
        return ContextDecoder(self, weights)

    def draw_first_values(self) -> None:
        """Draw matrices from a normal distribution keyed by seed and name; biases are 0."""
        for parameter in self.parameters:
            key = [self.seed % 2**64, zlib.crc32(parameter.name.encode())]
            rng = np.random.Generator(np.random.Philox(key=np.array(key, np.uint64)))
            drawn = rng.standard_normal(parameter.shape, dtype=np.float32)
            size = 0.0 if len(parameter.shape) == 1 else 0.5 / np.sqrt(self.config.n_embd)
            parameter.data[...] = drawn * np.float32(size)

    # ------------------------------------------------------------------ passes

    def forward(
        self, x: Array, *, train: bool = False, start: Array | None = None
    ) -> tuple[Array, Cache]:
        """Compute logits of shape (B, T, V), and what ``backward`` needs."""
        self.check_start(start, x.shape)
        self._check(x)
        get = self.parameters
        h_BTC = get["embedding.weight"].data[x]
        inputs, outputs = [], []
        for i in range(self.config.n_layer):
            before = _later(h_BTC, 2**i)
            out = h_BTC @ get[f"layers.{i}.now"].data + before @ get[f"layers.{i}.before"].data
            out = np.tanh(out + get[f"layers.{i}.bias"].data)
            inputs.append(h_BTC)
            outputs.append(out)
            h_BTC = h_BTC + out
        self._number += 1
        cache = Cache(self._number, x, inputs, outputs, h_BTC)
        return h_BTC @ get["embedding.weight"].data.T, cache

    def backward(self, d_logits: Array, cache: Cache) -> None:
        """Add the gradients of all parameters."""
        if cache.number != self._number:
            raise ShapeError(
                "model.backward: this cache is stale, another forward pass has come after it. "
                "Call backward before the next forward"
            )
        self._number += 1
        get, channels = self.parameters, self.config.n_embd
        table = get["embedding.weight"].data
        dh_BTC = d_logits @ table
        d_table = _rows(d_logits).T @ _rows(cache.last)
        for i in reversed(range(self.config.n_layer)):
            h_BTC, out = cache.inputs[i], cache.outputs[i]
            da_BTC = dh_BTC * (1 - out * out)
            da, distance = _rows(da_BTC), 2**i
            self._add(f"layers.{i}.now", _rows(h_BTC).T @ da)
            self._add(f"layers.{i}.before", _rows(_later(h_BTC, distance)).T @ da)
            self._add(f"layers.{i}.bias", da.sum(axis=0))
            dh_BTC = dh_BTC + da_BTC @ get[f"layers.{i}.now"].data.T
            dh_BTC = dh_BTC + _earlier(da_BTC @ get[f"layers.{i}.before"].data.T, distance)
        np.add.at(d_table, cache.tokens.reshape(-1), dh_BTC.reshape(-1, channels))
        self._add("embedding.weight", d_table)

    def step_loss(
        self,
        batch: Batch,
        loss: Loss,
        *,
        gradient: bool = True,
        train: bool = True,
        first_row: int = 0,
    ) -> float:
        """Compute the batch's share of the loss, and add its gradients."""
        logits, cache = self.forward(batch.x_BT, train=train, start=batch.start_BT)
        logits_NV = np.ascontiguousarray(_rows(logits))
        targets_N = np.ascontiguousarray(batch.y_BT.reshape(-1), np.int32)
        weights_N = batch.weights_BT.reshape(-1).astype(logits.dtype)
        total, rows = 0.0, chunk_rows(self.vocab_size)
        for first in range(0, len(targets_N), rows):
            part = slice(first, first + rows)
            losses = loss.tile(logits_NV[part], targets_N[part], weights_N[part], gradient=gradient)
            total += float(np.sum(losses, dtype=np.float64))
        if gradient:
            self.backward(logits_NV.reshape(logits.shape), cache)
        return total

    def _add(self, name: str, gradient: Array) -> None:
        grad, accumulate = self.parameters[name].grad_to_write()
        if accumulate:
            grad += gradient
        else:
            grad[...] = gradient

    def _check(self, x: Array) -> None:
        if x.ndim != 2 or x.dtype.kind not in "iu" or not 0 < x.shape[1] <= self.seq_len:
            raise ShapeError(
                f"model: expected integer token ids of shape (B, T) with T from 1 to "
                f"{self.seq_len} (model.seq_len), got {x.dtype} of shape {x.shape}"
            )
        if x.size and not 0 <= int(x.min()) <= int(x.max()) < self.vocab_size:
            raise ShapeError(
                f"token ids: expected ids from 0 to {self.vocab_size - 1}, got "
                f"{int(x.min())} to {int(x.max())}. Use the tokenizer that the model was made for"
            )


def _rows(a_BTW: Array) -> Array:
    return a_BTW.reshape(-1, a_BTW.shape[-1])


def _later(h_BTC: Array, distance: int) -> Array:
    """Return the stream shifted by ``distance`` tokens, with zeros at the beginning."""
    moved = np.zeros_like(h_BTC)
    moved[:, distance:] = h_BTC[:, :-distance]
    return moved


def _earlier(d_BTC: Array, distance: int) -> Array:
    """Return the gradient by ``h`` of ``_later(h)``."""
    moved = np.zeros_like(d_BTC)
    moved[:, :-distance] = d_BTC[:, distance:]
    return moved
