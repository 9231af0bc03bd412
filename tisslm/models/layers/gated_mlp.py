"""The gated MLP sublayer: h += dropout(down(f(gate) * up)) with [gate | up] = up(norm(h)).

As in ``mlp``, only what the first product gives is kept, and all else that is wide exists for one
chunk of rows at a time. There the activation is computed within the product; here the gate is a
pass of its own, over rows that the product has just left in a cache.
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

__all__ = ["GatedMLP"]

Array = NDArray[Any]


@final
class GatedMLP(Layer):
    """The gated MLP sublayer: SwiGLU with the activation ``silu``, GeGLU with ``gelu``.

    Parameters
    ----------
    norm : Norm
    up : Linear
        The map from C to 2F: the first F outputs are the gate, the others what it multiplies.
    down : Linear
        The map from F to C.
    activation : int
        A code of ``ops.ACTIVATIONS``: what the gate goes through.
    dropout : Dropout
    precision : Precision

    References
    ----------
    Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202.
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
        """Return the buffers; saved are x and what ``up`` gave, gate and up side by side."""
        rows = shape[0] * shape[1]
        stream, stored = self.precision.stream, self.precision.stored
        channels, hidden = self.down.weight.shape
        part = min(rows, CHUNK)
        plan = {
            **self.norm.plan(rows, stream, at_once=part),
            "x": Buffer((rows, channels), stored, "saved"),
            "gate_up": Buffer((rows, 2 * hidden), stored, "saved"),
            "normed": Buffer((part, channels), stored, "scratch"),
            "d_normed": Buffer((part, channels), stream, "scratch"),
            "act": Buffer((part, hidden), stored, "scratch"),
            "d_gate_up": Buffer((part, 2 * hidden), stored, "scratch"),
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
        """Add the gated MLP to the residual stream."""
        dropped = self.dropout.active(ctx)
        for rows in chunks(len(h_NC)):
            self._project(rows, h_NC, saved, scratch)
            act = scratch["act"][: rows.stop - rows.start]
            ops.gated_forward(saved["gate_up"][rows], act, self.activation)
            if dropped:
                self.down.forward(act, scratch["branch"][rows])
            else:
                self.down.add_forward(act, h_NC[rows])
        if dropped:
            self.dropout.add(h_NC, scratch["branch"], ctx)

    def _project(
        self, rows: slice, h_NC: Array, saved: Mapping[str, Array], scratch: Mapping[str, Array]
    ) -> None:
        """Normalize some rows and compute their gate and up, which is all that is saved."""
        normed = scratch["normed"][: rows.stop - rows.start]
        self.norm.forward(h_NC[rows], saved["x"][rows], normed, saved, rows)
        self.up.forward(normed, saved["gate_up"][rows])

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
        """Compute the backward of some rows; ``dy_NC`` may be ``dh_NC``, which is written last.

        ``act`` holds the gradient by the activation first, and is then overwritten by itself.
        """
        normed, d_normed, act, d_gate_up = (
            scratch[name][: len(dh_NC)] for name in ("normed", "d_normed", "act", "d_gate_up")
        )
        x_NC = saved["x"][rows]
        self.down.backward_input(dy_NC, act)
        ops.gated_backward(saved["gate_up"][rows], act, d_gate_up, act, self.activation)
        self.down.backward_weight(dy_NC, act)
        self.norm.recompute(x_NC, normed, saved, rows)
        self.up.backward_weight(d_gate_up, normed)
        self.up.backward_input(d_gate_up, d_normed)
        self.norm.backward(d_normed, x_NC, dh_NC, dh_NC, saved, scratch, rows)

    def recompute(
        self,
        h_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Compute what ``forward`` saves: neither the gate's pass nor the product with ``down``."""
        for rows in chunks(len(h_NC)):
            self._project(rows, h_NC, saved, scratch)

    def decode(self, h_BC: Array, cache: Mapping[str, Array], position: int) -> None:
        """Add the gated MLP of one new token per sequence."""
        channels, hidden = self.down.weight.shape
        out_BC = np.empty((len(h_BC), channels), h_BC.dtype)
        gate_up = np.empty((len(h_BC), 2 * hidden), h_BC.dtype)
        act = np.empty((len(h_BC), hidden), h_BC.dtype)
        self.norm.apply(h_BC, out_BC)
        self.up.forward(out_BC, gate_up)
        ops.gated_forward(gate_up, act, self.activation)
        self.down.forward(act, out_BC)
        h_BC += out_BC
