"""The MLP sublayer: h += dropout(down(act(up(norm(h))))), in chunks of rows.

Only the pre-activation is kept; the wide activation and its gradient exist for one chunk of rows
at a time, so they stay in cache and cost no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Buffer, Layer, Norm, PassContext
from tisslm.models.layers.dropout import Dropout
from tisslm.models.layers.linear import CHUNK, Linear, chunks
from tisslm.models.layers.precision import Precision

__all__ = ["MLP"]

Array = NDArray[Any]


@final
class MLP(Layer):
    """The MLP sublayer: two linear maps with an activation between them.

    Parameters
    ----------
    norm : Norm
    up, down : Linear
        The maps from C to F and from F to C.
    activation : int
        A code of ``ops.ACTIVATIONS``.
    dropout : Dropout
    precision : Precision
    """

    def __init__(
        self,
        norm: Norm,
        up: Linear,
        down: Linear,
        activation: int,
        dropout: Dropout,
        precision: Precision,
    ) -> None:
        self.norm = norm
        self.up = up
        self.down = down
        self.activation = activation
        self.dropout = dropout
        self.precision = precision

    def plan(self, shape: tuple[int, int]) -> dict[str, Buffer]:
        """Return the buffers; saved are x and the pre-activation."""
        rows = shape[0] * shape[1]
        stream, stored = self.precision.stream, self.precision.stored
        hidden, channels = self.up.weight.shape
        part = min(rows, CHUNK)
        plan = {
            **self.norm.plan(rows, stream, at_once=part),
            "x": Buffer((rows, channels), stored, "saved"),
            "pre": Buffer((rows, hidden), stored, "saved"),
            "normed": Buffer((part, channels), stored, "scratch"),
            "d_normed": Buffer((part, channels), stream, "scratch"),
            "act": Buffer((part, hidden), stored, "scratch"),
            "d_pre": Buffer((part, hidden), stored, "scratch"),
        }
        if self.precision.mixed or self.dropout.p:
            plan["branch"] = Buffer((rows, channels), stored, "scratch")
        return plan

    def forward(
        self,
        h_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Add the MLP to the residual stream."""
        dropped = self.dropout.active(ctx)
        for rows in chunks(len(h_NC)):
            act = self._activate(rows, h_NC, saved, scratch)
            if dropped:
                self.down.forward(act, scratch["branch"][rows])
            else:
                self.down.add_forward(act, h_NC[rows])
        if dropped:
            self.dropout.add(h_NC, scratch["branch"], ctx)

    def _activate(
        self, rows: slice, h_NC: Array, saved: Mapping[str, Array], scratch: Mapping[str, Array]
    ) -> Array:
        """Normalize and project some rows, and return their activation."""
        n = rows.stop - rows.start
        normed, act = scratch["normed"][:n], scratch["act"][:n]
        self.norm.forward(h_NC[rows], saved["x"][rows], normed, saved, rows)
        ops.linear_activation_forward(
            normed,
            self.up.weight.data,
            self.up.bias_data(),
            saved["pre"][rows],
            act,
            self.activation,
        )
        return act

    def backward(
        self,
        dh_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Replace the gradient by the output with that by the input of the sublayer."""
        dy_NC = dh_NC
        if self.precision.mixed or self.dropout.active(ctx):
            dy_NC = scratch["branch"]
            self.dropout.backward(dh_NC, dy_NC, ctx)
        for rows in chunks(len(dh_NC)):
            self._chunk_backward(rows, dy_NC[rows], dh_NC[rows], saved, scratch)

    def _chunk_backward(
        self,
        rows: slice,
        dy_NC: Array,
        dh_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
    ) -> None:
        """Compute the backward of some rows; ``dy_NC`` may be ``dh_NC``, which is written last."""
        normed, d_normed, act, d_pre = (
            scratch[name][: len(dh_NC)] for name in ("normed", "d_normed", "act", "d_pre")
        )
        x_NC = saved["x"][rows]
        self.down.backward_input(dy_NC, d_pre)
        ops.activation_backward(saved["pre"][rows], d_pre, d_pre, act, self.activation)
        self.down.backward_weight(dy_NC, act)
        self.norm.recompute(x_NC, normed, saved, rows)
        self.up.backward_weight(d_pre, normed)
        self.up.backward_input(d_pre, d_normed)
        self.norm.backward(d_normed, x_NC, dh_NC, dh_NC, saved, scratch, rows)

    def recompute(
        self,
        h_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Compute what ``forward`` saves, without the product with ``down``, which is not saved."""
        for rows in chunks(len(h_NC)):
            self._activate(rows, h_NC, saved, scratch)

    def decode(self, h_BC: Array, cache: Mapping[str, Array], position: int) -> None:
        """Add the MLP of one new token per sequence."""
        normed = np.empty_like(h_BC)
        pre = np.empty((len(h_BC), self.up.weight.shape[0]), h_BC.dtype)
        self.norm.apply(h_BC, normed)
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
