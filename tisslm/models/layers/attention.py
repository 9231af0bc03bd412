"""The attention sublayer: h += dropout(out(attend(qkv(norm(h))))).

The decoding step with its cache is here, too, since it shares the projections. Positions enter with
the embedding, or in ``query_keys``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Buffer, Layer, Norm, PassContext
from tisslm.errors import ConfigError, ShapeError
from tisslm.models.layers.chunks import CHUNK, chunks, rows_at_once
from tisslm.models.layers.dropout import Dropout
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.precision import Precision
from tisslm.models.layers.query_keys import QueryKeys

__all__ = ["Attention", "not_causal"]

Array = NDArray[Any]


def not_causal() -> ConfigError:
    """Return what refuses to write text with attention that is not causal."""
    return ConfigError(
        "model.causal: writing text needs true, got false: what a token has seen would change with "
        "every token after it. Use the model for vectors, or train one that is causal"
    )


def _rows(x_BTE: Array) -> Array:
    """Return the rows of channels of all tokens."""
    return x_BTE.reshape(-1, x_BTE.shape[2])


@final
class Attention(Layer):
    """Multi-head self-attention on the residual stream, within each document of a row.

    A token sees itself and the tokens before it, with a window of W the W - 1 before it; or, unless
    it is causal, all tokens of its document.

    Parameters
    ----------
    norm : Norm
    qkv : Linear
        The map from C to (H + 2K) D channels: queries, keys, values.
    out : Linear
        The map from H D to C channels.
    n_head, n_kv_head : int
    query_keys : QueryKeys
        What happens to queries and keys before they meet.
    window : int
        W; 0 for all tokens before.
    causal : bool
        Whether later tokens are not seen. Without it there is no window, and no decoding.
    attention_dropout, dropout : Dropout
        Dropout of the probabilities, and of the sublayer's output.
    precision : Precision
    scale : float, optional
        What products of queries and keys are multiplied by; 1 / sqrt(D) if left out.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", arXiv 1706.03762.
    Dao et al., "FlashAttention", arXiv 2205.14135.
    """

    def __init__(
        self,
        norm: Norm,
        qkv: Linear,
        out: Linear,
        n_head: int,
        n_kv_head: int,
        query_keys: QueryKeys,
        window: int,
        causal: bool,
        attention_dropout: Dropout,
        dropout: Dropout,
        precision: Precision,
        scale: float | None = None,
    ) -> None:
        self.norm = norm
        self.qkv = qkv
        self.out = out
        self.n_head = n_head
        self.n_kv_head = n_kv_head
        self.query_keys = query_keys
        self.window = window
        self.causal = causal
        self.attention_dropout = attention_dropout
        self.dropout = dropout
        self.precision = precision
        self.head_size = out.weight.shape[1] // n_head
        self.scale = 1.0 / math.sqrt(self.head_size) if scale is None else scale

    def plan(self, shape: tuple[int, int]) -> dict[str, Buffer]:
        """Return the buffers; saved are x, q, k, v, the heads' output and the log-sum-exp."""
        batch, time = shape
        rows = batch * time
        stream, stored = self.precision.stream, self.precision.stored
        part = min(rows, rows_at_once(CHUNK, stream))
        channels, wide = self.out.weight.shape[0], self.qkv.weight.shape[0]
        inner = self.n_head * self.head_size
        plan = {
            **self.norm.plan(rows, stream, at_once=part),
            **self.query_keys.plan(shape, wide),
            "x": Buffer((rows, channels), stored, "saved"),
            "qkv": Buffer((batch, time, wide), stored, "saved"),
            "heads": Buffer((batch, time, inner), stored, "saved"),
            "lse": Buffer((batch, self.n_head, time), stream, "saved"),
            "normed": Buffer((part, channels), stored, "scratch"),
            "d_normed": Buffer((part, channels), stream, "scratch"),
            "d_heads": Buffer((batch, time, inner), stored, "scratch"),
            "d_qkv": Buffer((batch, time, wide), stored, "scratch"),
        }
        heads = (batch, time, self.n_head, self.n_kv_head, self.head_size)
        if (dkv := ops.dkv_shape(*heads)) is not None:
            plan["dkv"] = Buffer(dkv, stream, "scratch")
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
        """Add the attention to the residual stream."""
        n = len(h_NC)
        qkv_NE, heads_NC = _rows(saved["qkv"]), _rows(saved["heads"])[:n]
        qkv_NE[n:] = 0  # of padding that is not computed; attention reads the whole batch
        for rows in chunks(n, len(scratch["normed"])):
            normed = scratch["normed"][: rows.stop - rows.start]
            self.norm.forward(h_NC[rows], saved["x"][rows], normed, saved, rows)
            self.qkv.forward(normed, qkv_NE[rows], ctx, rows.start)
        ops.attention_forward(
            self.query_keys.forward(saved["qkv"], scratch, ctx),
            saved["heads"],
            saved["lse"],
            self.n_head,
            self.n_kv_head,
            self.scale,
            *self.attention_dropout.key(ctx),
            *self._seen(ctx),
        )
        if self.dropout.active(ctx):
            branch = scratch["branch"][:n]
            self.out.forward(heads_NC, branch, ctx)
            self.dropout.add(h_NC, branch, ctx)
        else:
            self.out.add_forward(heads_NC, h_NC, ctx)

    def _seen(self, ctx: PassContext) -> tuple[Array | None, Array | None]:
        """Return the first position that each token sees, and the first behind those that it sees.

        None: that of its row, and the token after itself.
        """
        first_BT = ctx.window_BT if self.window else ctx.start_BT
        if not self.causal and ctx.stop_BT is None:
            raise ShapeError(
                "attention that sees later tokens: expected a pass that says where each document "
                "ends, got none. Fill PassContext.stop_BT, with T where a row is one document"
            )
        return first_BT, None if self.causal else ctx.stop_BT

    def shown(
        self, saved: Mapping[str, Array], scratch: Mapping[str, Array], ctx: PassContext
    ) -> Mapping[str, Array]:
        """Return what was saved, with queries and keys as they met, and what each token sees."""
        used = self.query_keys.used(saved["qkv"], scratch)
        seen = zip(("first", "stop"), self._seen(ctx), strict=True)
        return {**saved, "qkv": used} | {name: x for name, x in seen if x is not None}

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
        n = len(dh_NC)
        d_heads, d_qkv = scratch["d_heads"], scratch["d_qkv"]
        dy_NC = d_out_NC
        if self.precision.mixed or self.dropout.active(ctx):
            dy_NC = scratch["branch"][:n]
            self.dropout.backward(d_out_NC, dy_NC, ctx)
        heads_NC, d_heads_NC = _rows(saved["heads"]), _rows(d_heads)
        d_heads_NC[n:] = 0  # as in forward
        for rows in chunks(n, len(scratch["normed"])):
            place = (ctx, rows.start)
            self.out.backward(dy_NC[rows], heads_NC[rows], d_heads_NC[rows], *place)
        ops.attention_backward(
            d_heads,
            self.query_keys.again(saved["qkv"], scratch, ctx),
            saved["heads"],
            saved["lse"],
            d_qkv,
            self.n_head,
            self.n_kv_head,
            self.scale,
            *self.attention_dropout.key(ctx),
            *self._seen(ctx),
            scratch.get("dkv"),
        )
        self.query_keys.backward(d_qkv, saved["qkv"], scratch, ctx)
        d_qkv_NE = _rows(d_qkv)
        for rows in chunks(n, len(scratch["normed"])):
            self._chunk_backward(rows, d_qkv_NE[rows], dh_NC[rows], saved, scratch, ctx)

    def _chunk_backward(
        self,
        rows: slice,
        d_qkv_NE: Array,
        dh_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Compute the gradient by some rows of the stream from that by queries, keys and values."""
        normed, d_normed = (scratch[name][: len(dh_NC)] for name in ("normed", "d_normed"))
        x_NC = saved["x"][rows]
        self.norm.recompute(x_NC, normed, saved, rows)
        self.qkv.backward(d_qkv_NE, normed, d_normed, ctx, rows.start)
        self.norm.backward(d_normed, x_NC, dh_NC, dh_NC, saved, scratch, rows)

    def cache_plan(self, batch: int, context: int) -> dict[str, Buffer]:
        """Return the buffers for keys and values of earlier tokens, each of shape (B, K, S, D)."""
        shape = (batch, self.n_kv_head, context, self.head_size)
        buffer = Buffer(shape, self.precision.stream, "saved")
        return {"keys": buffer, "values": buffer}

    def fill_cache(self, cache: Mapping[str, Array], shown: Mapping[str, Array], time: int) -> None:
        """Store the keys, as they met the queries, and the values of a prompt."""
        qkv = ops.widen(shown["qkv"])
        heads = qkv.reshape(*qkv.shape[:2], -1, self.head_size).transpose(0, 2, 1, 3)
        first = self.n_head
        for name in ("keys", "values"):
            cache[name][:, :, :time] = heads[:, first : first + self.n_kv_head]
            first += self.n_kv_head

    def decode(self, h_BC: Array, cache: Mapping[str, Array], position_B: Array) -> None:
        """Add the attention of one new token per sequence, and store its key and value."""
        if not self.causal:
            raise not_causal()
        normed = np.empty_like(h_BC)
        qkv = np.empty((len(h_BC), self.qkv.weight.shape[0]), h_BC.dtype)
        heads = np.empty((len(h_BC), self.out.weight.shape[1]), h_BC.dtype)
        self.norm.apply(h_BC, normed)
        self.qkv.decode(normed, qkv)
        self.query_keys.decode(qkv, position_B)
        if self.window:
            first_B = np.maximum(position_B + 1 - self.window, 0)
        else:
            first_B = np.zeros(position_B.shape, position_B.dtype)
        ops.attention_decode(
            qkv,
            cache["keys"],
            cache["values"],
            heads,
            position_B,
            self.n_head,
            self.n_kv_head,
            self.scale,
            first_B,
        )
        self.out.decode(heads, normed)
        h_BC += normed
