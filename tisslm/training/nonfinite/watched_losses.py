"""Losses that show a tracer what goes in and what comes out."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import (
    Batch,
    EmbeddingLoss,
    Loss,
    PooledBatch,
    PooledValue,
    PreferenceLoss,
    PreferenceValue,
    ScoredPairs,
)
from tisslm.contracts.part_names import give_name, name_of
from tisslm.training.nonfinite.tracer import Tracer

__all__ = ["WatchedLoss", "WatchedPairs", "WatchedTexts"]

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

    def begin(self, batch: Batch) -> None:
        """Tell the loss of a pass."""
        self._loss.begin(batch)

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


@final
class WatchedTexts(EmbeddingLoss):
    """Hand everything to a loss of vectors, and show a tracer what goes in and what comes out.

    Parameters
    ----------
    loss : EmbeddingLoss
    tracer : Tracer
    """

    def __init__(self, loss: EmbeddingLoss, tracer: Tracer) -> None:
        self.needs_others = loss.needs_others  # type: ignore[misc]  # of this object
        self._loss, self._tracer = loss, tracer
        self._name = name_of(loss)
        give_name(self, self._name)

    def value(self, pooled: PooledBatch, *, gradient: bool = True) -> PooledValue:
        """Compute what the loss computes."""
        name = f"{self._name}.value"
        self._tracer.enter("loss", "forward")
        self._tracer.given(name, (("embeddings_KNE", pooled.embeddings_KNE),))
        found = self._loss.value(pooled, gradient=gradient)
        results = [("loss", np.asarray([found.loss], dtype=np.float64))]
        if found.d_embeddings_KNE is not None:
            results.append(("d_embeddings_KNE", found.d_embeddings_KNE))
        self._tracer.made(name, results)
        return found


@final
class WatchedPairs(PreferenceLoss):
    """Hand everything to a loss of pairs, and show a tracer what goes in and what comes out.

    Parameters
    ----------
    loss : PreferenceLoss
    tracer : Tracer
    """

    def __init__(self, loss: PreferenceLoss, tracer: Tracer) -> None:
        self.needs_reference = loss.needs_reference
        self._loss, self._tracer = loss, tracer
        self._name = name_of(loss)
        give_name(self, self._name)

    def value(self, pairs: ScoredPairs) -> PreferenceValue:
        """Compute what the loss computes."""
        name = f"{self._name}.value"
        given = (("policy_2P", pairs.policy_2P), ("reference_2P", pairs.reference_2P))
        self._tracer.given(name, given)
        found = self._loss.value(pairs)
        results = (("losses_P", found.losses_P), ("d_policy_2P", found.d_policy_2P))
        self._tracer.made(name, results)
        return found
