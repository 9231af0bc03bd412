"""Label smoothing: cross-entropy to targets that give every token some probability."""

from __future__ import annotations

from typing import Any, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Loss
from tisslm.contracts.options import number
from tisslm.optim.losses._rows import RowLosses

__all__ = ["LabelSmoothing"]


@final
class LabelSmoothing(Loss):
    """Cross-entropy to ``q_j = (1 - smoothing) [j = t] + smoothing / V``, in nats.

    ``loss = w sum_j q_j (log sum_i exp(z_i) - z_j)``; ``dz_j = w (softmax(z)_j - q_j)``. Both are
    zero where the target is -100. The least possible loss is the entropy of q, not zero.

    Parameters
    ----------
    smoothing : float
        Probability in [0, 1) that is spread over all tokens; 0 is plain cross-entropy.

    Raises
    ------
    ConfigError
        If ``smoothing`` is out of range.

    References
    ----------
    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision",
    arXiv 1512.00567.
    """

    def __init__(self, *, smoothing: float = 0.1) -> None:
        self.smoothing = number("loss label_smoothing: smoothing", smoothing, 0, 1)
        self._losses = RowLosses("loss label_smoothing")

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
        ops.cross_entropy_tile(logits_NV, targets_N, weights_N, losses_N, self.smoothing, gradient)
        return losses_N
