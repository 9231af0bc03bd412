"""The loss of a model on held-out windows.

What does not live here: when to evaluate, and where the result goes; the Trainer decides.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tisslm.contracts import (
    IGNORE_INDEX,
    Batch,
    Dataset,
    Loss,
    Model,
    stack_windows,
    target_weights,
)
from tisslm.errors import DataError

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes
    ----------
    loss : float
        Mean over the targets, in nats.
    targets : int
        Number of targets.
    seconds : float
    """

    loss: float
    targets: int
    seconds: float

    @property
    def perplexity(self) -> float:
        """exp(loss): infinite beyond the range of a float, NaN of NaN."""
        return math.inf if self.loss >= 700.0 else math.exp(self.loss)


def evaluate(
    model: Model,
    dataset: Dataset,
    loss: Loss,
    *,
    batch_size: int = 32,
    check: Callable[[], None] | None = None,
) -> Evaluation:
    """Compute the mean loss over every window of a dataset, in order, without dropout.

    Parameters
    ----------
    model : Model
    dataset : Dataset
    loss : Loss
    batch_size : int
        Windows per forward pass; the result does not depend on it beyond rounding.
    check : callable, optional
        Called before each forward pass; what it raises ends the evaluation.

    Raises
    ------
    DataError
        If the dataset has no target.
    """
    start = time.perf_counter()
    total, targets = 0.0, 0
    for first in range(0, len(dataset), batch_size):
        if check is not None:
            check()
        rows = range(first, min(first + batch_size, len(dataset)))
        x_BT, y_BT, *begins = stack_windows([dataset.window(i) for i in rows])
        count = int((y_BT != IGNORE_INDEX).sum())
        batch = Batch(x_BT, y_BT, target_weights(y_BT, np.float64), *begins)
        model.check_start(batch.start_BT, x_BT.shape)
        mean = model.step_loss(batch, loss, gradient=False, train=False)
        total += mean * count
        targets += count
    if targets == 0:
        raise DataError("evaluation: the dataset has no target; give it a longer text")
    return Evaluation(total / targets, targets, time.perf_counter() - start)
