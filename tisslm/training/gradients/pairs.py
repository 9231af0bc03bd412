"""The gradients of a language model by pairs of answers, each micro-batch in one pass.

The loss of a pair depends on the log-probabilities of its two answers, and its gradient is a number
for each, times the gradient of that log-probability. So both answers go through the body together,
the head tells what they are, the loss what each counts, and backward is that of a cross-entropy
whose targets count so (``Model.step_weighed``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.config import TrainingConfig
from tisslm.contracts import (
    AnyLoss,
    Model,
    PairBatch,
    PreferenceLoss,
    PreferenceValue,
    Rows,
    ScoredPairs,
)
from tisslm.contracts.preference import PAIR, REFERENCE
from tisslm.errors import DataError, ShapeError
from tisslm.tracking.monitoring import Monitoring
from tisslm.training.components import Components
from tisslm.training.gradients.gradients import Gradients, Passed
from tisslm.training.nonfinite.finding import Fault
from tisslm.training.ranks.agreement import array_of_ranks, counts_of_ranks

__all__ = ["COLUMNS", "PairGradients", "measures_of", "scored", "table_of"]

Array = NDArray[Any]

#: The columns of what is measured of each pair.
COLUMNS = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
)


def scored(
    pairs: PairBatch, policy_2P: Array, reference_P2: Array | None, loss: PreferenceLoss
) -> ScoredPairs:
    """Return what a loss is told of pairs whose answers have these log-probabilities.

    Parameters
    ----------
    pairs : PairBatch
    policy_2P : ndarray of shape (2, P)
    reference_P2 : ndarray of shape (P, 2) or None
        What the rows have; not looked at for a loss that needs none.
    loss : PreferenceLoss

    Raises
    ------
    DataError
        If the loss needs a reference, and there is none.
    """
    if not loss.needs_reference:
        reference_2P = np.zeros_like(policy_2P)
    elif reference_P2 is None or not np.isfinite(reference_P2).all():
        raise DataError(
            "pairs: expected the log-probabilities of the reference beside them "
            f"(others[{REFERENCE!r}]), got none; they are computed when a run begins, of its own "
            "data alone"
        )
    else:
        reference_2P = np.ascontiguousarray(reference_P2.T, np.float64)
    return ScoredPairs(policy_2P, reference_2P, pairs.sums(pairs.batch.weights_BT))


def table_of(pairs: ScoredPairs, value: PreferenceValue) -> Array:
    """Return what is measured of each pair, of shape (P, 7): a column for each of ``COLUMNS``."""
    chosen_P, rejected_P = value.rewards_2P
    margins_P = chosen_P - rejected_P
    right_P = (margins_P > 0).astype(np.float64)
    columns = (value.losses_P, chosen_P, rejected_P, margins_P, right_P, *pairs.policy_2P)
    return np.stack(columns, axis=1)


def measures_of(tables: list[Array]) -> dict[str, float]:
    """Return the mean of each column over all pairs, added in their order."""
    table = np.concatenate([np.empty((0, len(COLUMNS))), *tables])
    sums = np.add.accumulate(table, axis=0)[-1]  # one by one, whoever has brought them
    return {name: float(total) / len(table) for name, total in zip(COLUMNS, sums, strict=True)}


@final
class PairGradients(Gradients):
    """One pass a micro-batch of pairs.

    Parameters
    ----------
    model : Model
    loss : PreferenceLoss
    parts, config, monitoring, check
        As for ``Gradients``.
    """

    def __init__(
        self,
        model: Model,
        loss: PreferenceLoss,
        parts: Components,
        config: TrainingConfig,
        monitoring: Monitoring,
        check: Callable[[], None],
    ) -> None:
        super().__init__(parts, config, monitoring, check)
        self._model, self._loss = model, loss

    def leave(self, rows: Rows, loss: AnyLoss | None = None) -> Passed:
        """Leave the gradients of the mean over the pairs of all ranks."""
        parts, used = self.parts, loss if isinstance(loss, PreferenceLoss) else self._loss
        given, tokens = self._count(rows)
        parts.optimizer.zero_grad()
        scale = parts.scaler.begin()
        parts.reduction.begin(parts.reduction.share.present(given))
        tables: list[Array] = [np.empty((0, len(COLUMNS)))]
        for start, end, context in self._micro_batches(len(rows.x)):
            with context:
                tables.append(self._pass(rows.part(start, end), start, used, scale / given))
        found = measures_of([array_of_ranks(parts.communicator, np.concatenate(tables))])
        used.note({name: found[name] for name in COLUMNS[1:]})
        return Passed(found["loss"], given, tokens)

    def _pass(self, rows: Rows, first: int, loss: PreferenceLoss, weight: float) -> Array:
        """Add the gradients of a micro-batch, and return what is measured of its pairs."""
        self._announce()
        pairs = PairBatch.pack(rows, self._model.seq_len)
        found: list[Array] = []

        def weigh(losses_BT: Array) -> Array:
            given = scored(pairs, -pairs.sums(losses_BT), rows.others.get(REFERENCE), loss)
            value = loss.value(given)
            found.append(table_of(given, value))
            return pairs.spread(value.d_policy_2P * -weight)  # a loss is less one's logarithm

        first_row = 2 * (self.parts.reduction.share.own_rows.start + first)
        with self._monitoring.watching(pairs.batch.start_BT):
            self._model.step_weighed(
                pairs.batch, self.parts.validation_loss, weigh, first_row=first_row
            )
        return found[0]

    def _count(self, rows: Rows) -> tuple[int, int]:
        """Check the arrays of an update; count the pairs, and their tokens, of all ranks."""
        pair = rows.others.get(PAIR)
        if rows.x.shape != rows.y.shape or rows.x.ndim != 2 or _shape(pair) != (len(rows.x), 2):
            raise ShapeError(
                f"train_step: expected x and y of one shape (B, W), and others[{PAIR!r}] of shape "
                f"(B, 2), the tokens of each row's two texts, got {rows.x.shape}, {rows.y.shape} "
                f"and {_shape(pair)}; give such rows of pairs"
            )
        told = counts_of_ranks(self.parts.communicator, (int(rows.others[PAIR].sum()), len(rows.x)))
        given = self.parts.reduction.share.whole([rows_of for _, rows_of in told])
        if given == 0:
            raise DataError("train_step: there is no pair to learn from")
        return given, sum(tokens for tokens, _ in told)

    def located(self, fault: Fault, rows: int) -> Fault:
        """Return a fault without row and token, since answers of several pairs share rows."""
        return replace(fault, row=None, token=None)


def _shape(array: Array | None) -> tuple[int, ...] | None:
    return None if array is None else array.shape
