"""Focal loss: cross-entropy in which targets that are already predicted well count less."""

from __future__ import annotations

from typing import Any, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Loss
from tisslm.contracts.options import number
from tisslm.optim.losses._rows import RowLosses

__all__ = ["Focal"]


@final
class Focal(Loss):
    """Cross-entropy times ``(1 - s_t)^gamma``, where ``s = softmax(z)``, in nats.

    ``loss = -w (1 - s_t)^gamma log s_t``; ``dz_j = w c (s_j - [j = t])`` with
    ``c = (1 - s_t)^gamma (1 - gamma s_t log(s_t) / (1 - s_t))``. Both are zero where the target
    is -100.

    Parameters
    ----------
    gamma : float
        The exponent, gamma >= 0; 0 is plain cross-entropy.

    Raises
    ------
    ConfigError
        If ``gamma`` is out of range.

    References
    ----------
    Lin, Goyal, Girshick, He and Dollar, "Focal Loss for Dense Object Detection",
    arXiv 1708.02002.
    """

    def __init__(self, *, gamma: float = 2.0) -> None:
        self.gamma = number("loss focal: gamma", gamma, 0)
        self._losses = RowLosses("loss focal")

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
        ops.focal_tile(logits_NV, targets_N, weights_N, losses_N, self.gamma, gradient)
        return losses_N
