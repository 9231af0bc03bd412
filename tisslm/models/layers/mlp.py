"""The MLP sublayer: h += dropout(down(act(up(norm(h))))), in chunks of rows.

Only the pre-activation is kept; the wide activation and its gradient exist for one chunk of rows
at a time, so they stay in cache and cost no memory. What lies between the two maps is in
``activation``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Buffer, Layer, Norm, PassContext
from tisslm.models.layers.activation import Activation
from tisslm.models.layers.chunks import CHUNK, chunks, rows_at_once
from tisslm.models.layers.dropout import Dropout
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.precision import Precision

__all__ = ["MLP"]

Array = NDArray[Any]
#: Writes the normalized form of some rows.
Normalize = Callable[[slice, Array], None]


@final
class MLP(Layer):
    """The MLP sublayer: two linear maps with an activation between them.

    Parameters
    ----------
    norm : Norm
    up, down : Linear
        The maps from C to the pre-activation, and from F to C.
    activation : Activation
    dropout : Dropout
    precision : Precision
    """

    def __init__(
        self,
        norm: Norm,
        up: Linear,
        down: Linear,
        activation: Activation,
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
        part = min(rows, rows_at_once(CHUNK, stream))
        (wide, channels), hidden = self.up.weight.shape, self.down.weight.shape[1]
        plan = {
            **self.norm.plan(rows, stream, at_once=part),
            "x": Buffer((rows, channels), stored, "saved"),
            "pre": Buffer((rows, wide), stored, "saved"),
            "normed": Buffer((part, channels), stored, "scratch"),
            "d_normed": Buffer((part, channels), stream, "scratch"),
            "act": Buffer((part, hidden), stored, "scratch"),
            "d_pre": Buffer((part, wide), stored, "scratch"),
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
        self._add(self._from_stream(h_NC, saved), h_NC, saved, scratch, ctx)

    def add(
        self,
        h_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Add the MLP of a stream that is already saved, with its norm's statistics."""
        self._add(self._from_saved(saved), h_NC, saved, scratch, ctx)

    def _from_stream(self, h_NC: Array, saved: Mapping[str, Array]) -> Normalize:
        """Return what normalizes rows of the stream, and saves them."""

        def normalize(rows: slice, normed: Array) -> None:
            self.norm.forward(h_NC[rows], saved["x"][rows], normed, saved, rows)

        return normalize

    def _from_saved(self, saved: Mapping[str, Array]) -> Normalize:
        """Return what normalizes rows that are saved."""

        def normalize(rows: slice, normed: Array) -> None:
            self.norm.recompute(saved["x"][rows], normed, saved, rows)

        return normalize

    def _activations(
        self,
        normalize: Normalize,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> Iterator[tuple[slice, Array]]:
        """Yield the activation of some rows after the other; the next ones overwrite it."""
        for rows in chunks(ctx.rows, len(scratch["normed"])):
            normed, act = (scratch[name][: rows.stop - rows.start] for name in ("normed", "act"))
            normalize(rows, normed)
            self.activation.forward(self.up, normed, saved["pre"][rows], act, ctx, rows.start)
            yield rows, act

    def _add(
        self,
        normalize: Normalize,
        h_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        dropped = self.dropout.active(ctx)
        for rows, act in self._activations(normalize, saved, scratch, ctx):
            if dropped:
                self.down.forward(act, scratch["branch"][rows], ctx, rows.start)
            else:
                self.down.add_forward(act, h_NC[rows], ctx, rows.start)
        if dropped:
            self.dropout.add(h_NC, scratch["branch"][: len(h_NC)], ctx)

    def shown(
        self, saved: Mapping[str, Array], scratch: Mapping[str, Array], ctx: PassContext
    ) -> Mapping[str, Array]:
        """Return what was saved, with the parts of the pre-activation by name."""
        others = {name: array for name, array in saved.items() if name != "pre"}
        return others | self.activation.shown(saved["pre"])

    def backward(
        self,
        dh_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Replace the gradient by the output with that by the input of the sublayer."""
        self.pull(dh_NC, dh_NC, saved, scratch, ctx)

    def pull(
        self,
        d_out_NC: Array,
        dh_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Add to ``dh_NC``, which may be ``d_out_NC``, the gradient through what forward added."""
        dy_NC = d_out_NC
        if self.precision.mixed or self.dropout.active(ctx):
            dy_NC = scratch["branch"][: len(dh_NC)]
            self.dropout.backward(d_out_NC, dy_NC, ctx)
        for rows in chunks(len(dh_NC), len(scratch["normed"])):
            self._chunk_backward(rows, dy_NC[rows], dh_NC[rows], saved, scratch, ctx)

    def _chunk_backward(
        self,
        rows: slice,
        dy_NC: Array,
        dh_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Compute the backward of some rows; ``dy_NC`` may be ``dh_NC``, which is written last."""
        n, place = len(dh_NC), (ctx, rows.start)
        normed, d_normed, act = (scratch[name][:n] for name in ("normed", "d_normed", "act"))
        x_NC = saved["x"][rows]
        pre = saved["pre"][rows]
        d_pre = self.activation.backward(self.down, dy_NC, pre, act, scratch, *place)
        self.down.backward_weight(dy_NC, act, *place)
        self.norm.recompute(x_NC, normed, saved, rows)
        self.up.backward(d_pre, normed, d_normed, *place)
        self.norm.backward(d_normed, x_NC, dh_NC, dh_NC, saved, scratch, rows)

    def recompute(
        self,
        h_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Compute what ``forward`` saves, without the product with ``down``, which is not saved."""
        for _ in self._activations(self._from_stream(h_NC, saved), saved, scratch, ctx):
            pass

    def save(
        self, saved: Mapping[str, Array], scratch: Mapping[str, Array], ctx: PassContext
    ) -> None:
        """Compute what ``add`` saves."""
        for _ in self._activations(self._from_saved(saved), saved, scratch, ctx):
            pass

    def branch(self, h_BC: Array) -> Array:
        """Return what the MLP adds for one new token per sequence."""
        normed = np.empty_like(h_BC)
        (wide, _), hidden = self.up.weight.shape, self.down.weight.shape[1]
        pre, act = (np.empty((len(h_BC), columns), h_BC.dtype) for columns in (wide, hidden))
        self.norm.apply(h_BC, normed)
        self.up.decode(normed, pre)
        self.activation.apply(pre, act)
        self.down.decode(act, normed)
        return normed

    def decode(self, h_BC: Array, cache: Mapping[str, Array], position_B: Array) -> None:
        """Add the MLP of one new token per sequence."""
        h_BC += self.branch(h_BC)
