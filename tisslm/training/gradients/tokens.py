"""The gradients of a language model: each micro-batch adds its share of the mean over targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from tisslm.config import TrainingConfig
from tisslm.contracts import AnyLoss, Loss, Model, Rows
from tisslm.errors import DataError, ShapeError
from tisslm.tracking.monitoring import Monitoring
from tisslm.training.components import Components
from tisslm.training.gradients.gradients import Gradients, Passed
from tisslm.training.gradients.target_weights import TargetWeights
from tisslm.training.ranks.agreement import counts_of_ranks, sum_in_order

__all__ = ["TokenGradients"]


@final
class TokenGradients(Gradients):
    """One forward and backward pass a micro-batch.

    Parameters
    ----------
    model : Model
    loss : Loss
    parts, config, monitoring, check
        As for ``Gradients``.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        parts: Components,
        config: TrainingConfig,
        monitoring: Monitoring,
        check: Callable[[], None],
    ) -> None:
        super().__init__(parts, config, monitoring, check)
        self._model, self._loss = model, loss
        self._targets = TargetWeights()

    def leave(self, rows: Rows, loss: AnyLoss | None = None) -> Passed:
        """Leave the gradients of the mean over the real targets of all ranks."""
        parts, used = self.parts, loss if isinstance(loss, Loss) else self._loss
        count, given = self._count(rows)
        parts.optimizer.zero_grad()
        scale = parts.scaler.begin()
        parts.reduction.begin(parts.reduction.share.present(given))
        losses: list[float] = []
        for start, end, context in self._micro_batches(len(rows.x)):
            with context:
                losses.append(self._pass(rows.part(start, end), start, used, count, scale))
        loss_sum = sum_in_order(parts.communicator, losses)
        return Passed(loss_sum / scale, given, given * rows.x.shape[1])

    def _pass(self, rows: Rows, first: int, loss: Loss, count: int, scale: float) -> float:
        """Add the gradients of a micro-batch, and return its loss, which has the loss scale."""
        self._announce()
        weights = self._targets.weigh(rows.y, count)
        weights *= scale
        batch, offset = rows.weighed(weights), self.parts.reduction.share.own_rows.start
        loss.begin(batch)
        with self._monitoring.watching(batch.start_BT):
            return self._model.step_loss(batch, loss, first_row=offset + first)

    def _count(self, rows: Rows) -> tuple[int, int]:
        """Check the arrays of an update; count the real targets, and the rows, of all ranks."""
        if rows.x.shape != rows.y.shape or rows.x.ndim != 2:
            raise ShapeError(
                "train_step: expected x and y of one shape (B, T), got "
                f"{rows.x.shape} and {rows.y.shape}"
            )
        self._model.check_start(rows.start, rows.x.shape)
        told = counts_of_ranks(self.parts.communicator, (self._targets.count(rows.y), len(rows.x)))
        count = sum(targets for targets, _ in told)
        if count == 0:
            raise DataError("train_step: every target is -100; there is nothing to learn from")
        return count, self.parts.reduction.share.whole([given for _, given in told])
