"""Twins of softmax cross-entropy and its relatives, on one tile of rows of logits.

``s = softmax(z)`` of a row z of V logits with target t, and ``lse = log sum_j exp(z_j)``, which is
never formed: it would be rounded at the size of the logits. With ``top = max_j z_j`` and
``total = sum_j exp(z_j - top)``, ``lse - z_j`` is ``log total - (z_j - top)``, and ``s`` is
``exp(z - top) / total``: what is added to all logits of a row changes no digit of either. A target
of -100 is none: its loss and its gradient are zero whatever the logits hold. Every row is a
function of that row alone, and loss and gradient are linear in its weight.

Means over targets are made by the caller's weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "cross_entropy_tile",
    "exp_sum",
    "focal_tile",
    "softmax_gradient",
    "target_rank",
]

Array = NDArray[Any]

NO_TARGET = -100
QUIET = np.errstate(all="ignore")  # infinite and NaN logits go through, as in the kernels


@QUIET
def cross_entropy_tile(
    logits_NV: Array,
    targets_N: Array,
    weights_N: Array,
    losses_N: Array,
    label_smoothing: float,
    gradient: bool,
) -> int:
    """Compute ``loss = w sum_j q_j (lse - z_j)``; gradient ``dz = w (s - q)``.

    ``q_j = (1 - label_smoothing) [j = t] + label_smoothing / V``.

    Parameters
    ----------
    logits_NV : ndarray of shape (N, V), IN/OUT
        Logits z; overwritten by dz if ``gradient``, left as they are otherwise.
    targets_N : ndarray of shape (N,), integer, IN
    weights_N : ndarray of shape (N,), IN
        w.
    losses_N : ndarray of shape (N,), OUT
        In nats, times the weight.
    label_smoothing : float
        0 <= label_smoothing < 1; 0 is plain cross-entropy.
    gradient : bool

    Returns
    -------
    int
        0, or 1 + the first row whose target is neither -100 nor in [0, V); nothing is written
        in that case.

    References
    ----------
    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision",
    arXiv 1512.00567 (label smoothing).
    """
    error = _first_bad_row(targets_N, logits_NV.shape[1])
    if error:
        return error
    real_N, at = _targets(targets_N)
    smoothing = float(label_smoothing)
    shifted_NV = logits_NV if gradient else logits_NV.copy()
    shifted_NV -= shifted_NV.max(axis=1, keepdims=True)
    target_N, mean_N = shifted_NV[at], shifted_NV.mean(axis=1)
    total_N = np.exp(shifted_NV, out=shifted_NV).sum(axis=1)
    lse_N = np.log(total_N)
    values_N = lse_N - target_N
    if smoothing:
        values_N = (1 - smoothing) * values_N + smoothing * (lse_N - mean_N)
    losses_N[...] = np.where(real_N, weights_N * values_N, 0)
    if gradient:
        dlogits_NV = shifted_NV
        dlogits_NV *= (weights_N / total_N)[:, None]
        dlogits_NV -= (smoothing / dlogits_NV.shape[1] * weights_N)[:, None]
        dlogits_NV[at] -= (1 - smoothing) * weights_N
        dlogits_NV[~real_N] = 0
    return 0


@QUIET
def focal_tile(
    logits_NV: Array,
    targets_N: Array,
    weights_N: Array,
    losses_N: Array,
    gamma: float,
    gradient: bool,
) -> int:
    """Compute ``loss = -w (1 - s_t)^gamma log s_t``; gradient ``dz_j = w c (s_j - [j = t])``.

    ``c = (1 - s_t)^gamma (1 - gamma s_t log(s_t) / (1 - s_t))``.

    Parameters
    ----------
    logits_NV : ndarray of shape (N, V), IN/OUT
        Logits z; overwritten by dz if ``gradient``, left as they are otherwise.
    targets_N : ndarray of shape (N,), integer, IN
    weights_N : ndarray of shape (N,), IN
        w.
    losses_N : ndarray of shape (N,), OUT
        In nats, times the weight.
    gamma : float
        gamma >= 0; 0 is plain cross-entropy.
    gradient : bool

    Returns
    -------
    int
        As in ``cross_entropy_tile``.

    References
    ----------
    Lin, Goyal, Girshick, He and Dollar, "Focal Loss for Dense Object Detection",
    arXiv 1708.02002.
    """
    error = _first_bad_row(targets_N, logits_NV.shape[1])
    if error:
        return error
    real_N, at = _targets(targets_N)
    shifted_NV = logits_NV if gradient else logits_NV.copy()
    shifted_NV -= shifted_NV.max(axis=1, keepdims=True)
    target_N = shifted_NV[at]
    total_N = np.exp(shifted_NV, out=shifted_NV).sum(axis=1)
    surprise_N = np.log(total_N) - target_N
    miss_N = -np.expm1(-surprise_N)  # 1 - s_t, without its cancellation
    focus_N = miss_N ** float(gamma)
    losses_N[...] = np.where(real_N, weights_N * focus_N * surprise_N, 0)
    if gradient:
        # -log(s_t) / (1 - s_t) tends to 1 where the target is certain
        ratio_N = np.where(miss_N == 0, 1, surprise_N / miss_N)
        slope_N = weights_N * focus_N * (1 + float(gamma) * np.exp(-surprise_N) * ratio_N)
        dlogits_NV = shifted_NV
        dlogits_NV *= (slope_N / total_N)[:, None]
        dlogits_NV[at] -= slope_N
        dlogits_NV[~real_N] = 0
    return 0


@QUIET
def exp_sum(logits_NV: Array, top_N: Array, total_N: Array) -> None:
    """Compute ``top = max_j z_j`` and ``total = sum_j exp(z_j - top)`` of each row.

    ``log sum_j exp(z_j)`` is ``top + log total``. A loss keeps the two apart where it can:
    ``-log s_t`` is ``log total - (z_t - top)``, however large the logits are.

    Parameters
    ----------
    logits_NV : ndarray of shape (N, V), IN
    top_N, total_N : ndarray of shape (N,), OUT
    """
    top_N[...] = logits_NV.max(axis=1)
    total_N[...] = np.exp(logits_NV - top_N[:, None]).sum(axis=1)


@QUIET
def softmax_gradient(
    logits_NV: Array,
    top_N: Array,
    total_N: Array,
    targets_N: Array,
    coefficient_N: Array,
    target_coefficient_N: Array,
) -> None:
    """Compute ``dz_j = coefficient exp(z_j - top) / total - target_coefficient [j = t]``.

    This is the gradient of any loss that is a function of ``lse`` and of the target's logit.

    Parameters
    ----------
    logits_NV : ndarray of shape (N, V), IN/OUT
        Logits z, overwritten by dz.
    top_N, total_N : ndarray of shape (N,), IN
        What ``exp_sum`` has computed for these logits.
    targets_N : ndarray of shape (N,), integer, IN
        Nothing is subtracted where the target is outside [0, V).
    coefficient_N, target_coefficient_N : ndarray of shape (N,), IN
        Derivatives of the loss by ``lse`` and, negated, by the target's logit.
    """
    logits_NV -= top_N[:, None]
    np.exp(logits_NV, out=logits_NV)
    logits_NV *= (coefficient_N / total_N)[:, None]
    rows = np.flatnonzero((targets_N >= 0) & (targets_N < logits_NV.shape[1]))
    logits_NV[rows, targets_N[rows]] -= target_coefficient_N[rows]


@QUIET
def target_rank(logits_NV: Array, targets_N: Array, ranks_N: Array) -> int:
    """Count the logits of each row that are greater than the target's.

    ``rank = #{j: z_j > z_t} + #{j < t: z_j = z_t}``: 0 where ``argmax`` finds the target, below 5
    where it is among the best five. A NaN counts as greater, and a target's NaN as the least.

    Parameters
    ----------
    logits_NV : ndarray of shape (N, V), IN
    targets_N : ndarray of shape (N,), integer, IN
    ranks_N : ndarray of shape (N,), int32, OUT
        -1 where there is no target.

    Returns
    -------
    int
        As in ``cross_entropy_tile``.
    """
    vocab = logits_NV.shape[1]
    error = _first_bad_row(targets_N, vocab)
    if error:
        return error
    real_N, at = _targets(targets_N)
    places_V, target_N1 = np.arange(vocab), logits_NV[at][:, None]
    before_NV = places_V < at[1][:, None]
    above_NV = ~np.where(before_NV, logits_NV < target_N1, logits_NV <= target_N1)
    above_NV &= places_V != at[1][:, None]
    ranks_N[...] = np.where(real_N, above_NV.sum(axis=1), -1)
    return 0


def _first_bad_row(targets_N: Array, n_classes: int) -> int:
    bad = (targets_N != NO_TARGET) & ((targets_N < 0) | (targets_N >= n_classes))
    return int(bad.argmax()) + 1 if bad.any() else 0


def _targets(targets_N: Array) -> tuple[Array, tuple[Array, Array]]:
    """Return a mask of the rows with a target, and an index of each row's target logit, or 0."""
    real_N = targets_N != NO_TARGET
    return real_N, (np.arange(len(targets_N)), np.where(real_N, targets_N, 0))
