"""Cross-entropy with a penalty on the logarithm of the softmax normalizer."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import IGNORE_INDEX, Loss
from tisslm.contracts.options import number
from tisslm.errors import DataError, ShapeError

__all__ = ["ZLoss"]


@final
class ZLoss(Loss):
    """Cross-entropy plus ``z_weight (log Z)^2``, in nats, where ``Z = sum_j exp(z_j)``.

    ``loss = w (log Z - z_t + z_weight (log Z)^2)``;
    ``dz_j = w ((1 + 2 z_weight log Z) softmax(z)_j - [j = t])``. Both are zero where the target
    is -100.

    Parameters
    ----------
    z_weight : float
        Weight of the penalty, >= 0; 0 is plain cross-entropy.

    Raises
    ------
    ConfigError
        If ``z_weight`` is out of range.

    References
    ----------
    Chowdhery and others, "PaLM: Scaling Language Modeling with Pathways", arXiv 2204.02311,
    section 5.
    """

    def __init__(self, *, z_weight: float = 1e-4) -> None:
        self.z_weight = number("loss z_loss: z_weight", z_weight, 0)

    def tile(
        self,
        logits_NV: NDArray[Any],
        targets_N: NDArray[Any],
        weights_N: NDArray[Any],
        *,
        gradient: bool = True,
    ) -> NDArray[Any]:
        """Compute each row's loss times its weight, and replace the logits by the gradient.

        Parameters
        ----------
        logits_NV : ndarray of shape (N, V), float32 or float64, C-contiguous
            Overwritten by the gradient if ``gradient``, left as they are otherwise.
        targets_N : ndarray of shape (N,), int32
        weights_N : ndarray of shape (N,), same dtype as the logits

        Returns
        -------
        losses_N : ndarray of shape (N,), same dtype as the logits

        Raises
        ------
        ShapeError
            If an array has another shape, type or layout.
        DataError
            If a target is neither -100 nor in ``range(V)``.
        """
        _check(logits_NV, targets_N, weights_N)
        real_N = targets_N != IGNORE_INDEX
        rows = np.arange(len(targets_N))
        top_N, total_N = np.empty_like(weights_N), np.empty_like(weights_N)
        ops.exp_sum(logits_NV, top_N, total_N)
        target_N = logits_NV[rows, np.where(real_N, targets_N, 0)]
        # A row without target counts as zero even if its logits are not finite.
        top_N[~real_N], total_N[~real_N], target_N[~real_N] = 0.0, 1.0, 0.0
        log_total_N = np.log(total_N)
        log_z_N = top_N + log_total_N
        pull_N = self.z_weight * log_z_N
        # The penalty needs log Z itself; the cross-entropy keeps its digits without it.
        losses_N: NDArray[Any] = np.where(
            real_N, weights_N * (log_total_N - (target_N - top_N) + pull_N * log_z_N), 0.0
        )
        if gradient:
            logits_NV[~real_N] = 0.0
            coefficient_N = np.where(real_N, weights_N * (1.0 + 2.0 * pull_N), 0.0)
            ops.softmax_gradient(logits_NV, top_N, total_N, targets_N, coefficient_N, weights_N)
        return losses_N


def _check(logits_NV: NDArray[Any], targets_N: NDArray[Any], weights_N: NDArray[Any]) -> None:
    """Raise an error for arrays that the kernels cannot read."""
    rows, dtype = logits_NV.shape[:1], logits_NV.dtype
    fits = (
        logits_NV.ndim == 2
        and dtype in (np.float32, np.float64)
        and targets_N.shape == weights_N.shape == rows
        and targets_N.dtype == np.int32
        and weights_N.dtype == dtype
        and all(a.flags.c_contiguous for a in (logits_NV, targets_N, weights_N))
    )
    if not fits:
        got = ", ".join(f"{a.shape} {a.dtype}" for a in (logits_NV, targets_N, weights_N))
        raise ShapeError(
            "loss z_loss: expected C-contiguous logits (N, V) of float32 or float64, targets (N,) "
            f"of int32 and weights (N,) of the logits' type, got {got}"
        )
    n_classes = logits_NV.shape[1]
    bad_N = (targets_N != IGNORE_INDEX) & ((targets_N < 0) | (targets_N >= n_classes))
    if bad_N.any():
        row = int(bad_N.argmax())
        raise DataError(
            f"targets: row {row} of the tile is {int(targets_N[row])}, neither -100 nor an id of "
            f"the vocabulary of {n_classes}. Use the tokenizer that the model was made for"
        )
