"""Twins of rotary positions: queries and keys are turned by angles that grow with the position."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.ops.reference.storage import store, widen

__all__ = ["rotary_backward", "rotary_forward"]

Array = NDArray[Any]


def rotary_forward(
    qkv_BTE: Array,
    cos_PR: Array,
    sin_PR: Array,
    out_BTE: Array,
    n_head: int,
    n_kv_head: int,
    position: int,
    start_BT: Array | None,
) -> None:
    """Compute ``a' = a cos - b sin`` and ``b' = b cos + a sin`` of the pairs of each q and k head.

    The pairs are channels ``(i, i + R)`` of a head, as published weights have them. Channels from
    2R on, and the values, are copied. Rows may come in chunks, each as one long row: from flat row
    n on, with ``position`` n and documents that begin at ``b T + start``.

    Parameters
    ----------
    qkv_BTE : ndarray of shape (B, T, (H + 2K) D), IN
        Queries, keys and values of each token.
    cos_PR, sin_PR : ndarray of shape (P, R) with 2R <= D, IN
        Cosine and sine of each position's angles, float32 in models.
    out_BTE : ndarray of shape (B, T, (H + 2K) D), OUT
        Stored as ``qkv``, and may be it.
    n_head, n_kv_head : int
        H and K.
    position : int
        Of each row's first token: token t has ``position + t - start[b, t]``, from 0 to P - 1.
    start_BT : ndarray of int32 of shape (B, T) or None, IN
        Where in its row the document of each token begins, below 0 if it began before the row, as
        that of a token which is decoded. None: a row is one document.

    References
    ----------
    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv 2104.09864.
    """
    turned_BTE = _turned(qkv_BTE, cos_PR, sin_PR, n_head, n_kv_head, position, start_BT)
    store(out_BTE, turned_BTE)


def rotary_backward(
    dout_BTE: Array,
    cos_PR: Array,
    sin_PR: Array,
    dqkv_BTE: Array,
    n_head: int,
    n_kv_head: int,
    position: int,
    start_BT: Array | None,
) -> None:
    """Turn the gradient back: ``da = da' cos + db' sin`` and ``db = db' cos - da' sin``.

    Parameters
    ----------
    dout_BTE : ndarray of shape (B, T, (H + 2K) D), IN
    cos_PR, sin_PR : ndarray of shape (P, R), IN
    dqkv_BTE : ndarray of shape (B, T, (H + 2K) D), OUT
        Stored as ``dout``, and may be it.
    n_head, n_kv_head, position : int
        As in forward.
    start_BT : ndarray of int32 of shape (B, T) or None, IN
        As in forward.
    """
    turned_BTE = _turned(dout_BTE, cos_PR, -sin_PR, n_head, n_kv_head, position, start_BT)
    store(dqkv_BTE, turned_BTE)


def _turned(
    x_BTE: Array,
    cos_PR: Array,
    sin_PR: Array,
    n_head: int,
    n_kv_head: int,
    position: int,
    start_BT: Array | None,
) -> Array:
    (B, T, _), R, turned = x_BTE.shape, cos_PR.shape[1], n_head + n_kv_head
    start = np.zeros((1, T), np.int32) if start_BT is None else start_BT
    places = position + np.arange(T) - start
    cos, sin = cos_PR[places][:, :, None], sin_PR[places][:, :, None]
    y_BTE = np.array(widen(x_BTE))
    heads = y_BTE.reshape(B, T, turned + n_kv_head, -1)[:, :, :turned]
    a, b = heads[..., :R].copy(), heads[..., R : 2 * R].copy()
    heads[..., :R] = a * cos - b * sin
    heads[..., R : 2 * R] = b * cos + a * sin
    return y_BTE
