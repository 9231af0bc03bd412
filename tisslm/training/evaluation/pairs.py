"""Evaluation of a language model by pairs of answers: how often, and by how much, it prefers right.

The loss and the rewards of a pair are those that it is trained by.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Communicator, Dataset, Loss, Model, PairBatch, PreferenceLoss
from tisslm.contracts.preference import PAIR, REFERENCE
from tisslm.errors import DataError
from tisslm.training.evaluation.tokens import spread_batches
from tisslm.training.gradients.pairs import COLUMNS, measures_of, scored, table_of
from tisslm.training.gradients.reference import score_answers
from tisslm.training.ranks.agreement import rows_of_ranks

__all__ = ["PairEvaluation", "evaluate_pairs"]

Array = NDArray[Any]


@dataclass(frozen=True)
class PairEvaluation:
    """What an evaluation of pairs found.

    Attributes
    ----------
    loss : float
        The loss of training, a mean over the pairs.
    pairs : int
    seconds : float
    measures : mapping of str to float
        Means over the pairs: ``rewards/accuracies`` (the share whose chosen answer has the larger
        reward), ``rewards/margins``, ``rewards/chosen``, ``rewards/rejected``, ``logps/chosen`` and
        ``logps/rejected``.
    """

    loss: float
    pairs: int
    seconds: float
    measures: dict[str, float] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Return what is known, by the names that sinks get."""
        speed = self.pairs / self.seconds if self.seconds else math.inf
        found = {"loss": self.loss, **self.measures}
        found |= {"runtime": self.seconds, "samples_per_second": speed}
        return {f"eval/{name}": value for name, value in found.items()}


def evaluate_pairs(
    model: Model,
    dataset: Dataset,
    loss: PreferenceLoss,
    entropy: Loss,
    *,
    batch_size: int = 32,
    max_batches: int = 0,
    check: Callable[[], None] | None = None,
    communicator: Communicator | None = None,
) -> PairEvaluation:
    """Compute loss and rewards over the pairs of a dataset, in order, without dropout.

    Parameters
    ----------
    model : Model
    dataset : Dataset
        Of windows with ``pair`` and, unless the loss needs none, ``reference``.
    loss : PreferenceLoss
    entropy : Loss
        The cross-entropy.
    batch_size : int
        Pairs of a pass; the result does not depend on it beyond rounding.
    max_batches : int
        At most so many passes, over pairs that are spread evenly; 0 takes every one.
    check : callable, optional
        Called before each pass; what it raises ends the evaluation.
    communicator : Communicator, optional
        Its ranks, all of which call this, share out the passes; the result is the same.

    Raises
    ------
    DataError
        If windows are no pairs, or lack the reference.
    """
    start = time.perf_counter()
    found: list[Array] = []
    for rows in spread_batches(dataset, batch_size, max_batches, communicator):
        if check is not None:
            check()
        if communicator is not None:
            communicator.beat("an evaluation")
        if PAIR not in rows.others:
            raise DataError(
                f"evaluation: expected windows of pairs (others[{PAIR!r}]), got some without; give "
                'a dataset such as data.name = "preferences"'
            )
        pairs = PairBatch.pack(rows, model.seq_len)
        policy_2P = score_answers(model, pairs, entropy)
        given = scored(pairs, policy_2P, rows.others.get(REFERENCE), loss)
        found.append(table_of(given, loss.value(given)))
    found = _in_order(found, batch_size, communicator)
    measures, count = measures_of(found), sum(map(len, found))
    return PairEvaluation(measures.pop("loss"), count, time.perf_counter() - start, measures)


def _in_order(own: list[Array], batch_size: int, communicator: Communicator | None) -> list[Array]:
    """Return what all ranks have found, batch by batch: each has had every so-many-th of them."""
    if communicator is None or communicator.size == 1:
        return own
    rows = [row for table in own for row in table]
    ranks = rows_of_ranks(communicator, rows, len(COLUMNS))
    found = []
    for first in range(0, max(map(len, ranks)), batch_size):
        parts = (np.array(rows[first : first + batch_size]) for rows in ranks)
        found += [part for part in parts if len(part)]
    return found
