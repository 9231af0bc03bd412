"""Twins of the RMS norms of queries and keys, by head or over all heads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.ops.reference.norm import BLOCK
from tisslm.ops.reference.storage import store, widen

__all__ = ["head_norm_backward", "head_norm_forward"]

Array = NDArray[Any]


def head_norm_forward(
    qkv_BTE: Array,
    gamma_q: Array,
    gamma_k: Array,
    rstd_NU: Array,
    out_BTE: Array,
    n_head: int,
    n_kv_head: int,
    eps: float,
) -> None:
    """Compute ``x rstd gamma``, ``rstd = 1 / sqrt(mean(x^2) + eps)``, of queries and of keys.

    The mean runs over as many channels as ``gamma`` has: D, and then all heads share ``gamma`` and
    each has a mean of its own, or those of all heads. Values are copied.

    Parameters
    ----------
    qkv_BTE : ndarray of shape (B, T, (H + 2K) D), IN
        Queries, keys and values of each token.
    gamma_q : ndarray of shape (D,) or (H D,), IN
    gamma_k : ndarray of shape (D,) or (K D,), IN
    rstd_NU : ndarray of shape (B T, U), OUT
        Of each norm of a row, those of queries first; U is H + K, or 2 with norms over all heads.
    out_BTE : ndarray of shape (B, T, (H + 2K) D), OUT
        Stored as ``qkv``, and may be it.
    n_head, n_kv_head : int
        H and K.
    eps : float
        Added to the mean of the squares.

    References
    ----------
    Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv 1910.07467; Henry et al.,
    "Query-Key Normalization for Transformers", arXiv 2010.04245.
    """
    y_NE = np.array(widen(qkv_BTE)).reshape(len(rstd_NU), -1)
    for channels, norms, gamma in _parts(y_NE, gamma_q, gamma_k, n_head, n_kv_head):
        x_NGW = y_NE[:, channels].reshape(len(y_NE), -1, gamma.size)
        rstd_NU[:, norms] = 1 / np.sqrt((x_NGW * x_NGW).mean(axis=2) + eps)
        normal_NGW = x_NGW * rstd_NU[:, norms, None]
        y_NE[:, channels] = (normal_NGW * gamma).reshape(len(y_NE), -1)
    store(out_BTE, y_NE.reshape(out_BTE.shape))


def head_norm_backward(
    dout_BTE: Array,
    qkv_BTE: Array,
    gamma_q: Array,
    gamma_k: Array,
    rstd_NU: Array,
    dqkv_BTE: Array,
    dgamma_q: Array | None,
    dgamma_k: Array | None,
    partial_KW: Array,
    n_head: int,
    n_kv_head: int,
    accumulate: bool,
) -> None:
    """Compute ``dx = rstd (g - n mean(g n))`` with ``g = dout gamma`` and ``n = x rstd``.

    ``dgamma (+)= sum of dout n`` over rows, and over heads where they share it; the gradient of
    values is copied.

    Parameters
    ----------
    dout_BTE, qkv_BTE : ndarray of shape (B, T, (H + 2K) D), IN
    gamma_q : ndarray of shape (D,) or (H D,), IN
    gamma_k : ndarray of shape (D,) or (K D,), IN
    rstd_NU : ndarray of shape (B T, U), IN
    dqkv_BTE : ndarray of shape (B, T, (H + 2K) D), OUT
        Stored as ``dout`` and ``qkv``; may be ``dout``.
    dgamma_q, dgamma_k : ndarray of the shape of gamma, or None, IN/OUT with accumulate
    partial_KW : ndarray of shape (at least B T / 64, size of both gammas), scratch
        Sums of blocks of 64 rows.
    n_head, n_kv_head : int
    accumulate : bool
        Add to ``dgamma`` instead of overwriting it.
    """
    N = len(rstd_NU)
    x_NE, d_NE = widen(qkv_BTE).reshape(N, -1), np.array(widen(dout_BTE)).reshape(N, -1)
    parts = _parts(x_NE, gamma_q, gamma_k, n_head, n_kv_head)
    for (channels, norms, gamma), dgamma in zip(parts, (dgamma_q, dgamma_k), strict=True):
        rstd_NU1 = rstd_NU[:, norms, None]
        normal_NGW = x_NE[:, channels].reshape(N, -1, gamma.size) * rstd_NU1
        d_NGW = d_NE[:, channels].reshape(N, -1, gamma.size)
        if dgamma is not None:
            if not accumulate:
                dgamma[...] = 0
            for first in range(0, N, BLOCK):
                rows = slice(first, first + BLOCK)
                dgamma += (d_NGW[rows] * normal_NGW[rows]).sum(axis=(0, 1))
        g_NGW = d_NGW * gamma
        mean_NG1 = (g_NGW * normal_NGW).mean(axis=2, keepdims=True)
        d_NE[:, channels] = (rstd_NU1 * (g_NGW - normal_NGW * mean_NG1)).reshape(N, -1)
    store(dqkv_BTE, d_NE.reshape(dqkv_BTE.shape))


def _parts(
    x_NE: Array, gamma_q: Array, gamma_k: Array, n_head: int, n_kv_head: int
) -> Iterator[tuple[slice, slice, Array]]:
    """Yield queries and keys: their channels, their norms among those of a row, their gamma."""
    size = x_NE.shape[1] // (n_head + 2 * n_kv_head)
    channel = norm = 0
    for heads, gamma in ((n_head, gamma_q), (n_kv_head, gamma_k)):
        channels, norms = heads * size, heads * size // gamma.size
        yield slice(channel, channel + channels), slice(norm, norm + norms), gamma
        channel, norm = channel + channels, norm + norms
