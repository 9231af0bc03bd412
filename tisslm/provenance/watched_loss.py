"""A loss whose results are looked at: one that is a plugin's need not compute by the ops.

What does not live here: the loss.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Batch, Loss
from tisslm.part_names import give_name, name_of
from tisslm.provenance.tracer import Tracer

__all__ = ["WatchedLoss"]

Array = NDArray[Any]


@final
class WatchedLoss(Loss):
    """Hand everything to a loss, and show a tracer what goes in and what comes out.

    Parameters
    ----------
    loss : Loss
    tracer : Tracer
    """

    def __init__(self, loss: Loss, tracer: Tracer) -> None:
        self.needs = loss.needs  # type: ignore[misc]  # of this object, as the loss has it
        self._loss, self._tracer = loss, tracer
        self._name = name_of(loss)
        give_name(self, self._name)

    def tile(
        self, logits_NV: Array, targets_N: Array, weights_N: Array, *, gradient: bool = True
    ) -> Array:
        """Compute what the loss computes."""
        name = f"{self._name}.tile"
        self._tracer.given(name, (("logits_NV", logits_NV), ("weights_N", weights_N)))
        losses_N = self._loss.tile(logits_NV, targets_N, weights_N, gradient=gradient)
        self._tracer.made(name, (("losses_N", losses_N), ("logits_NV", logits_NV)))
        return losses_N

    def whole(self, hidden_BTC: Array, batch: Batch) -> tuple[float, Array]:
        """Compute what the loss computes."""
        name = f"{self._name}.whole"
        self._tracer.enter("head", "forward")
        self._tracer.given(name, (("hidden_BTC", hidden_BTC), ("weights_BT", batch.weights_BT)))
        total, d_hidden = self._loss.whole(hidden_BTC, batch)
        results = (("loss", np.asarray([total], dtype=np.float64)), ("d_hidden", d_hidden))
        self._tracer.made(name, results)
        return total, d_hidden
