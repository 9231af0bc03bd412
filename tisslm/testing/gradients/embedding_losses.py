"""Every registered loss of vectors as a problem for the gradient checks.

The other checks of such a loss are in ``tisslm.testing.losses.embedding``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import EmbeddingLoss
from tisslm.testing.gradients.problem import Problem
from tisslm.testing.losses.embedding import example

__all__ = ["EmbeddingLossProblem"]

Array = NDArray[Any]


@final
class EmbeddingLossProblem(Problem):
    """The loss of an update as a function of its vectors, and of the scale if it learns one.

    Parameters
    ----------
    make : callable
        Builds the loss.
    dtype : str
    large : bool
    """

    def __init__(self, make: Callable[[], EmbeddingLoss], dtype: str, large: bool) -> None:
        self.loss = make()
        n, size = (130, 72) if large else (4, 6)
        n_texts = max(k for k in range(2, 4) if k in self.loss.n_texts)
        self.pooled = example(self.loss, dtype, n_texts=n_texts, n=n, size=size)
        self.log_scale = np.array([2.0], dtype)
        self.values = {"vectors_KNE": self.pooled.embeddings_KNE}
        if self.loss.learns_scale:
            self.values |= {"log_scale": self.log_scale}

    def weights(self, name: str, like: Array) -> Array:
        """Return one, the weight of the loss."""
        return np.ones_like(like)

    def outputs(self) -> Mapping[str, Array]:
        """Return the loss."""
        return {"loss": np.asarray(self._value(gradient=False).loss)}

    def gradients(self) -> Mapping[str, Array]:
        """Return the gradient of the loss."""
        value = self._value(gradient=True)
        gradients = {"vectors_KNE": np.asarray(value.d_embeddings_KNE)}
        if self.loss.learns_scale:
            gradients["log_scale"] = np.array([value.d_log_scale])
        return gradients

    def _value(self, *, gradient: bool) -> Any:
        scale = float(self.log_scale[0]) if self.loss.learns_scale else None
        return self.loss.value(replace(self.pooled, log_scale=scale), gradient=gradient)
