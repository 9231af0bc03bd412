"""The MLP sublayer: h += dropout(down(act(up(norm(h))))), in chunks of rows.

Only the pre-activation is kept; the wide activation and its gradient exist for one chunk of rows
at a time, so they stay in cache and cost no memory.
What does not live here: gated variants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Buffer, Layer, PassContext
from tisslm.layers.dropout import Dropout
from tisslm.layers.linear import Linear
from tisslm.layers.norm import LayerNorm

__all__ = ["MLP"]

Array = NDArray[Any]

#: Rows of one chunk: enough for the packing of the weights to cost under 3 %, few enough for
#: chunk x 4C activations to stay near the last-level cache. A multiple of 64, so that the sums
#: over rows have the order they have without chunks.
CHUNK = 1024


def chunks(rows: int) -> Iterator[slice]:
    """Cut rows into chunks, a function of the shape alone."""
    for start in range(0, rows, CHUNK):
        yield slice(start, min(start + CHUNK, rows))


@final
class MLP(Layer):
    """Two linear maps with an activation between, on the residual stream.

    Parameters
    ----------
    norm : LayerNorm
    up, down : Linear
        C to F and F to C.
    activation : int
        A code of ``ops.ACTIVATIONS``.
    dropout : Dropout
    dtype : str
    """

    def __init__(
        self,
        norm: LayerNorm,
        up: Linear,
        down: Linear,
        activation: int,
        dropout: Dropout,
        dtype: str,
    ) -> None:
        self.norm = norm
        self.up = up
        self.down = down
        self.activation = activation
        self.dropout = dropout
        self.dtype = dtype

    def plan(self, shape: tuple[int, int]) -> dict[str, Buffer]:
        """Name the buffers; saved are x and the pre-activation."""
        rows = shape[0] * shape[1]
        hidden, channels = self.up.weight.shape
        part = min(rows, CHUNK)
        return {
            **self.norm.plan(rows, self.dtype),
            "x": Buffer((rows, channels), self.dtype, "saved"),
            "pre": Buffer((rows, hidden), self.dtype, "saved"),
            "normed": Buffer((rows, channels), self.dtype, "scratch"),
            "dropped": Buffer((rows, channels), self.dtype, "scratch"),
            "act": Buffer((part, hidden), self.dtype, "scratch"),
            "d_pre": Buffer((part, hidden), self.dtype, "scratch"),
        }

    def forward(
        self,
        h_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Add the MLP to the stream."""
        normed = scratch["normed"]
        saved["x"][...] = h_NC
        self.norm.forward(h_NC, normed, saved)
        for rows in chunks(len(h_NC)):
            act = scratch["act"][: rows.stop - rows.start]
            ops.linear_activation_forward(
                normed[rows],
                self.up.weight.data,
                self.up.bias_data(),
                saved["pre"][rows],
                act,
                self.activation,
            )
            self.down.forward(act, normed[rows])
        self.dropout.add(h_NC, normed, ctx)

    def backward(
        self,
        dh_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Replace the gradient by that of the sublayer's input."""
        normed = scratch["normed"]
        dy_NC = self.dropout.add_backward(dh_NC, scratch["dropped"], ctx)
        for rows in chunks(len(dh_NC)):
            n = rows.stop - rows.start
            act, d_pre = scratch["act"][:n], scratch["d_pre"][:n]
            self.down.backward_input(dy_NC[rows], d_pre)
            ops.activation_backward(saved["pre"][rows], d_pre, d_pre, act, self.activation)
            self.down.backward_weight(dy_NC[rows], act)
            self.norm.recompute(saved["x"][rows], normed[rows], saved, rows)
            self.up.backward_weight(d_pre, normed[rows])
            self.up.backward_input(d_pre, normed[rows])
        self.norm.backward(normed, saved["x"], dh_NC, dh_NC, saved, scratch)

    def refill(self, x_NC: Array, saved: Mapping[str, Array], scratch: Mapping[str, Array]) -> None:
        """Leave in ``saved`` what ``forward`` would, without the layer's output.

        A third of the products of a block less: no backward reads what ``down`` gives.

        Parameters
        ----------
        x_NC : ndarray of shape (N, C)
            The layer's input.
        """
        normed = scratch["normed"]
        saved["x"][...] = x_NC
        self.norm.forward(x_NC, normed, saved)
        for rows in chunks(len(x_NC)):
            ops.linear_activation_forward(
                normed[rows],
                self.up.weight.data,
                self.up.bias_data(),
                saved["pre"][rows],
                scratch["act"][: rows.stop - rows.start],
                self.activation,
            )

    def decode(self, h_BC: Array) -> None:
        """Add the MLP of one new token per sequence (no statistics are kept)."""
        saved = {k: np.empty(len(h_BC), h_BC.dtype) for k in ("norm_mean", "norm_rstd")}
        normed = np.empty_like(h_BC)
        pre = np.empty((len(h_BC), self.up.weight.shape[0]), h_BC.dtype)
        self.norm.forward(h_BC, normed, saved)
        ops.linear_activation_forward(
            normed,
            self.up.weight.data,
            self.up.bias_data(),
            pre,
            act := np.empty_like(pre),
            self.activation,
        )
        self.down.forward(act, normed)
        h_BC += normed
