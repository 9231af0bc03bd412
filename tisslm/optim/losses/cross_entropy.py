"""Softmax cross-entropy, the loss of language modeling.

Smoothed targets are in ``label_smoothing.py``.
"""

from __future__ import annotations

from typing import Any, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Loss
from tisslm.optim.losses._rows import RowLosses

__all__ = ["CrossEntropy"]


@final
class CrossEntropy(Loss):
    """Negative log-likelihood of the target, in nats.

    ``loss = w (log sum_j exp(z_j) - z_t)``; ``dz_j = w (softmax(z)_j - [j = t])``. Both are zero
    where the target is -100.
    """

    def __init__(self) -> None:
        self._losses = RowLosses("loss cross_entropy")

    def tile(
        self,
        logits_NV: NDArray[Any],
        targets_N: NDArray[Any],
        weights_N: NDArray[Any],
        *,
        gradient: bool = True,
    ) -> NDArray[Any]:
        """Compute each row's loss times its weight, and replace the logits by the gradient."""
        losses_N = self._losses.view(logits_NV, targets_N, weights_N)
        ops.cross_entropy_tile(logits_NV, targets_N, weights_N, losses_N, 0.0, gradient)
        return losses_N
