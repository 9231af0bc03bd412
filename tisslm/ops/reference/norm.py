"""Twins of the norms: forward, recomputation from saved statistics, backward."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.ops.reference.storage import store, widen

__all__ = [
    "layer_norm_apply",
    "layer_norm_backward",
    "layer_norm_forward",
    "rms_norm_apply",
    "rms_norm_backward",
    "rms_norm_forward",
]

Array = NDArray[Any]

BLOCK = 64  # rows summed first; the blocks' sums are then added in order, as in the kernels


def layer_norm_forward(
    h_NC: Array,
    gamma_C: Array,
    beta_C: Array | None,
    x_NC: Array | None,
    y_NC: Array,
    mean_N: Array,
    rstd_N: Array,
    eps: float,
) -> None:
    """Compute ``y = (x - mean) rstd gamma + beta``, ``rstd = 1 / sqrt(mean((x - mean)^2) + eps)``.

    Parameters
    ----------
    h_NC : ndarray of shape (N, C), IN
        The residual stream.
    gamma_C : ndarray of shape (C,), IN
    beta_C : ndarray of shape (C,) or None, IN
    x_NC : ndarray of shape (N, C) or None, OUT
        The stream as it is stored for backward; what is normalized is this, so that backward
        differentiates exactly what forward computed.
    y_NC : ndarray of shape (N, C), OUT
        Stored as ``x``.
    mean_N, rstd_N : ndarray of shape (N,), OUT
        Statistics of each row, saved for backward.
    eps : float
        Added to the variance.

    References
    ----------
    Ba, Kiros and Hinton, "Layer Normalization", arXiv 1607.06450.
    """
    if x_NC is not None:
        store(x_NC, h_NC)
    kept_NC = h_NC if x_NC is None else widen(x_NC)
    kept_NC.mean(axis=1, out=mean_N)
    centred = kept_NC - mean_N[:, None]
    rstd_N[...] = 1 / np.sqrt((centred * centred).mean(axis=1) + eps)
    layer_norm_apply(kept_NC, gamma_C, beta_C, mean_N, rstd_N, y_NC)


def layer_norm_apply(
    x_NC: Array, gamma_C: Array, beta_C: Array | None, mean_N: Array, rstd_N: Array, y_NC: Array
) -> None:
    """Compute ``y = (x - mean) rstd gamma + beta`` from saved statistics.

    Parameters
    ----------
    x_NC : ndarray of shape (N, C), IN
    gamma_C : ndarray of shape (C,), IN
    beta_C : ndarray of shape (C,) or None, IN
    mean_N, rstd_N : ndarray of shape (N,), IN
    y_NC : ndarray of shape (N, C), OUT
    """
    y = (widen(x_NC) - mean_N[:, None]) * rstd_N[:, None] * gamma_C
    store(y_NC, y if beta_C is None else y + beta_C)


def layer_norm_backward(
    dy_NC: Array,
    x_NC: Array,
    gamma_C: Array,
    mean_N: Array,
    rstd_N: Array,
    dres_NC: Array | None,
    dx_NC: Array,
    dgamma_C: Array | None,
    dbeta_C: Array | None,
    partial_2KC: Array,
    accumulate: bool,
) -> None:
    """Compute ``dx = rstd (g - mean(g) - n mean(g n)) + dres``, with ``g = dy gamma``.

    Here ``n = (x - mean) rstd`` and the means run over a row; ``dgamma (+)= sum_N dy n`` and
    ``dbeta (+)= sum_N dy``.

    Parameters
    ----------
    dy_NC, x_NC : ndarray of shape (N, C), IN
    gamma_C : ndarray of shape (C,), IN
    mean_N, rstd_N : ndarray of shape (N,), IN
    dres_NC : ndarray of shape (N, C) or None, IN
        Gradient that reaches ``x`` by the residual connection; may be the array ``dx_NC``.
    dx_NC : ndarray of shape (N, C), OUT
    dgamma_C : ndarray of shape (C,) or None, IN/OUT with accumulate
    dbeta_C : ndarray of shape (C,) or None, IN/OUT with accumulate
    partial_2KC : ndarray of shape (2, K, C) with K >= ceil(N / 64), scratch
        Sums of blocks of 64 rows, of ``dgamma`` and of ``dbeta``.
    accumulate : bool
        Add to ``dgamma`` and ``dbeta`` instead of overwriting them.
    """
    normal_NC = (widen(x_NC) - mean_N[:, None]) * rstd_N[:, None]
    starts = range(0, len(x_NC), BLOCK)
    for k, start in enumerate(starts):
        rows = slice(start, start + BLOCK)
        partial_2KC[0, k] = (dy_NC[rows] * normal_NC[rows]).sum(axis=0)
        partial_2KC[1, k] = dy_NC[rows].sum(axis=0)
    if dgamma_C is not None:
        _add_blocks(partial_2KC[0, : len(starts)], dgamma_C, accumulate)
    if dbeta_C is not None:
        _add_blocks(partial_2KC[1, : len(starts)], dbeta_C, accumulate)

    g_NC = dy_NC * gamma_C
    mean_g_N1 = g_NC.mean(axis=1, keepdims=True)
    mean_gn_N1 = (g_NC * normal_NC).mean(axis=1, keepdims=True)
    result_NC = rstd_N[:, None] * (g_NC - mean_g_N1 - normal_NC * mean_gn_N1)
    if dres_NC is not None:
        result_NC += dres_NC
    dx_NC[...] = result_NC


def rms_norm_forward(
    h_NC: Array, gamma_C: Array, x_NC: Array | None, y_NC: Array, rstd_N: Array, eps: float
) -> None:
    """Compute ``y = x rstd gamma``, ``rstd = 1 / sqrt(mean(x^2) + eps)``.

    Parameters
    ----------
    h_NC : ndarray of shape (N, C), IN
        The residual stream.
    gamma_C : ndarray of shape (C,), IN
    x_NC : ndarray of shape (N, C) or None, OUT
        The stream as it is stored for backward, which is what is normalized.
    y_NC : ndarray of shape (N, C), OUT
        Stored as ``x``.
    rstd_N : ndarray of shape (N,), OUT
        Reciprocal root mean square of each row, saved for backward.
    eps : float
        Added to the mean square.

    References
    ----------
    Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv 1910.07467.
    """
    if x_NC is not None:
        store(x_NC, h_NC)
    kept_NC = h_NC if x_NC is None else widen(x_NC)
    rstd_N[...] = 1 / np.sqrt((kept_NC * kept_NC).mean(axis=1) + eps)
    rms_norm_apply(kept_NC, gamma_C, rstd_N, y_NC)


def rms_norm_apply(x_NC: Array, gamma_C: Array, rstd_N: Array, y_NC: Array) -> None:
    """Compute ``y = x rstd gamma`` from saved statistics.

    Parameters
    ----------
    x_NC : ndarray of shape (N, C), IN
    gamma_C : ndarray of shape (C,), IN
    rstd_N : ndarray of shape (N,), IN
    y_NC : ndarray of shape (N, C), OUT
    """
    store(y_NC, widen(x_NC) * rstd_N[:, None] * gamma_C)


def rms_norm_backward(
    dy_NC: Array,
    x_NC: Array,
    gamma_C: Array,
    rstd_N: Array,
    dres_NC: Array | None,
    dx_NC: Array,
    dgamma_C: Array | None,
    partial_KC: Array,
    accumulate: bool,
) -> None:
    """Compute ``dx = rstd (g - n mean(g n)) + dres``, with ``g = dy gamma`` and ``n = x rstd``.

    The mean runs over a row; ``dgamma (+)= sum_N dy n``.

    Parameters
    ----------
    dy_NC, x_NC : ndarray of shape (N, C), IN
    gamma_C : ndarray of shape (C,), IN
    rstd_N : ndarray of shape (N,), IN
    dres_NC : ndarray of shape (N, C) or None, IN
        Gradient that reaches ``x`` by the residual connection; may be the array ``dx_NC``.
    dx_NC : ndarray of shape (N, C), OUT
    dgamma_C : ndarray of shape (C,) or None, IN/OUT with accumulate
    partial_KC : ndarray of shape (K, C) with K >= ceil(N / 64), scratch
        Sums of blocks of 64 rows.
    accumulate : bool
        Add to ``dgamma`` instead of overwriting it.
    """
    normal_NC = widen(x_NC) * rstd_N[:, None]
    starts = range(0, len(x_NC), BLOCK)
    for k, start in enumerate(starts):
        rows = slice(start, start + BLOCK)
        partial_KC[k] = (dy_NC[rows] * normal_NC[rows]).sum(axis=0)
    if dgamma_C is not None:
        _add_blocks(partial_KC[: len(starts)], dgamma_C, accumulate)

    g_NC = dy_NC * gamma_C
    mean_gn_N1 = (g_NC * normal_NC).mean(axis=1, keepdims=True)
    result_NC = rstd_N[:, None] * (g_NC - normal_NC * mean_gn_N1)
    if dres_NC is not None:
        result_NC += dres_NC
    dx_NC[...] = result_NC


def _add_blocks(partial_KC: Array, total_C: Array, accumulate: bool) -> None:
    if not accumulate:
        total_C[...] = 0
    for block_C in partial_KC:
        total_C += block_C
