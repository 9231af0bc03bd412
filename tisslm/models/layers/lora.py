"""Low-rank adapters: y += s (x A^T) B^T, beside a linear map that is not trained.

Each adds to the columns of one map, where a product has several side by side. What backward needs
is computed again from x: u = s x A^T has few columns, so that costs little and keeps nothing.
``docs/math/lora.md`` derives it.

References
----------
Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.
Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", arXiv 2312.03732.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import PassContext
from tisslm.memory import Arena, Parameter, aligned
from tisslm.models.layers.chunks import CHUNK, chunks
from tisslm.models.layers.dropout import Dropout

__all__ = ["Lora", "LoraRoom"]

Array = NDArray[Any]


class LoraRoom:
    """Scratch that all adapters of a model share, since none keeps anything: for a chunk of rows.

    Parameters
    ----------
    rank : int
        R, the largest.
    channels : int
        C, the most that a map reads; 0 where nothing is dropped.
    dtype : {"float32", "float64"}
    """

    def __init__(self, rank: int, channels: int, dtype: str) -> None:
        size = np.dtype(dtype).itemsize
        self._dtype = dtype
        self._low, self._wide = CHUNK * rank, CHUNK * channels
        self.nbytes = 2 * aligned(self._low * size) + 2 * aligned(self._wide * size)

    @cached_property
    def _blocks(self) -> tuple[list[Array], list[Array]]:
        arena = Arena(self.nbytes)
        low = [arena.take((self._low,), self._dtype) for _ in range(2)]
        return low, [arena.take((self._wide,), self._dtype) for _ in range(2)]

    def low(self, number: int, rows: int, rank: int) -> Array:
        """Return one of two arrays of shape (n, R)."""
        return self._blocks[0][number][: rows * rank].reshape(rows, rank)

    def wide(self, number: int, rows: int, channels: int) -> Array:
        """Return one of two arrays of shape (n, C)."""
        return self._blocks[1][number][: rows * channels].reshape(rows, channels)


class Lora:
    """An adapter of the O columns of a map, from ``first`` on.

    Parameters
    ----------
    a : Parameter of shape (R, C)
    b : Parameter of shape (O, R)
    first : int
        Where the columns begin in the rows that the product writes.
    scale : float
        s.
    dropout : Dropout
        Of x, on its way to A alone. A row of it is drawn by its number in the whole update.
    room : LoraRoom
    """

    def __init__(
        self, a: Parameter, b: Parameter, first: int, scale: float, dropout: Dropout, room: LoraRoom
    ) -> None:
        self.a = a
        self.b = b
        self.first = first
        self.scale = scale
        self.dropout = dropout
        self.room = room

    @property
    def columns(self) -> slice:
        """The columns that it adds to."""
        return slice(self.first, self.first + self.b.shape[0])

    def forward(self, x_NC: Array, y_NE: Array, ctx: PassContext | None, first: int) -> None:
        """Add s (x A^T) B^T to the columns of ``y_NE``."""
        for rows in chunks(len(x_NC)):
            seen = self._seen(x_NC[rows], ctx, first + rows.start)
            ops.linear_add_columns(self._low(seen), self.b.data, y_NE[rows], self.first)

    def decode(self, x_BC: Array, y_BE: Array) -> None:
        """Add it for a few decoded tokens; the bits of a row do not depend on the others."""
        low = np.empty((len(x_BC), self.a.shape[0]), x_BC.dtype)
        added = np.empty((len(x_BC), self.b.shape[0]), x_BC.dtype)
        ops.linear_decode(x_BC, self.a.data, None, low)
        low *= self.scale
        ops.linear_decode(low, self.b.data, None, added)
        y_BE[:, self.columns] += added

    def backward_weight(
        self, dy_NE: Array, x_NC: Array, ctx: PassContext | None, first: int
    ) -> None:
        """Accumulate the gradients: dB += dy^T u, dA += (s dy B)^T x."""
        for rows in chunks(len(x_NC)):
            seen = self._seen(x_NC[rows], ctx, first + rows.start)
            if self.b.trainable:
                grad, add = self.b.grad_to_write()
                ops.linear_columns_backward_weight(
                    dy_NE[rows], self._low(seen), grad, self.first, add
                )
            if self.a.trainable:
                grad, add = self.a.grad_to_write()
                ops.linear_backward_weight(self._d_low(dy_NE[rows]), seen, grad, None, add)

    def backward_input(
        self, dy_NE: Array, dx_NC: Array, ctx: PassContext | None, first: int
    ) -> None:
        """Add (s dy B) A to ``dx_NC``."""
        for rows in chunks(len(dy_NE)):
            d_low = self._d_low(dy_NE[rows])
            if ctx is not None and self.dropout.active(ctx):
                self._add_dropped(d_low, dx_NC[rows], self._key(ctx, first + rows.start))
            else:
                ops.linear_add_backward_input(d_low, self.a.data, dx_NC[rows])

    def _low(self, x_NC: Array) -> Array:
        """Return u = s x A^T, for some rows."""
        low = self.room.low(0, len(x_NC), self.a.shape[0])
        ops.linear_forward(x_NC, self.a.data, None, low)
        low *= self.scale
        return low

    def _d_low(self, dy_NE: Array) -> Array:
        """Return the gradient by x A^T, s dy B, for some rows."""
        d_low = self.room.low(1, len(dy_NE), self.a.shape[0])
        ops.linear_columns_backward_input(dy_NE, self.b.data, d_low, self.first)
        d_low *= self.scale
        return d_low

    def _key(self, ctx: PassContext, first: int) -> tuple[int, float, int, int, int, int]:
        """Return what draws the masks of rows: each is a sample of its own."""
        p, seed, update, site, first_row = self.dropout.key(ctx)
        return 1, p, seed, update, site, first_row * ctx.time + first

    def _seen(self, x_NC: Array, ctx: PassContext | None, first: int) -> Array:
        """Return what A sees of some rows."""
        if ctx is None or not self.dropout.active(ctx):
            return x_NC
        dropped = self.room.wide(0, *x_NC.shape)
        dropped[...] = 0.0
        ops.residual_forward(dropped, x_NC, *self._key(ctx, first))
        return dropped

    def _add_dropped(self, d_low: Array, dx_NC: Array, key: tuple[Any, ...]) -> None:
        """Add (d_low A) mask / (1 - p) to rows that may be stored in two bytes."""
        d_seen, total = (self.room.wide(i, *dx_NC.shape) for i in range(2))
        ops.linear_backward_input(d_low, self.a.data, d_seen)
        if dx_NC.dtype == total.dtype:
            ops.residual_forward(dx_NC, d_seen, *key)
            return
        total[...] = 0.0
        ops.residual_forward(total, dx_NC, 1, 0.0, 0, 0, 0, 0)
        ops.residual_forward(total, d_seen, *key)
        ops.narrow(total, dx_NC)
