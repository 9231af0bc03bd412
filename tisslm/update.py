"""One update: the gradients of its micro-batches; then check, show, clip, update, and go on.

What does not live here: the passes (the model), and the arithmetic of the update (the optimizer).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tisslm.contracts import Batch
from tisslm.errors import DataError, ShapeError
from tisslm.rejection import may_apply
from tisslm.reporting import is_logged

if TYPE_CHECKING:
    from tisslm.trainer import Trainer

__all__ = ["accumulate", "apply", "clip", "overflowed"]

Array = NDArray[Any]

#: Added to the norm before it divides, as in PyTorch's clip_grad_norm_.
CLIP_EPS = 1e-6


def accumulate(trainer: Trainer, x: Array, y: Array, start: Array | None = None) -> float:
    """Leave the gradients of a window's mean loss, times the loss scale, and return that loss.

    Parameters
    ----------
    trainer : Trainer
    x, y : integer ndarrays of shape (B, T)
        Of all micro-batches.
    start : integer ndarray of shape (B, T), optional
        Where in its row the document of each token begins.

    Returns
    -------
    float
        Over the real targets of all processes, in nats, without the loss scale.

    Raises
    ------
    ShapeError
        If the shapes differ.
    DataError
        If there is no target.
    """
    if x.shape != y.shape or x.ndim != 2:
        raise ShapeError(
            f"train_step: expected x and y of one shape (B, T), got {x.shape} and {y.shape}"
        )
    trainer.model.check_start(start, x.shape)
    comm, rows = trainer.communicator, trainer.config.batch_size
    count = int(comm.sum_scalars([float(trainer.targets.count(y))])[0])
    if count == 0:
        raise DataError("train_step: every target is -100; there is nothing to learn from")
    trainer.zero_gradients()
    scale = trainer.scaler.begin()
    loss = 0.0
    for first in range(0, len(x), rows):
        trainer.leaving.check()  # which drops what is accumulated, if the run is to end
        part = slice(first, first + rows)
        weights = trainer.targets.weigh(y[part], count)
        weights *= scale
        batch = Batch(x[part], y[part], weights, None if start is None else start[part])
        with trainer.monitoring.watching(batch.start_BT):
            loss += trainer.model.step_loss(batch, trainer.loss_fn, first_row=first)
    loss = comm.sum_scalars([loss])[0] / scale
    comm.sum_gradients(trainer.model.parameters.grad)
    return loss


def apply(trainer: Trainer, x: Array, y: Array, loss: float, start: Array | None = None) -> None:
    """Make one update of the gradients that are there, or none if they must not be applied.

    Parameters
    ----------
    trainer : Trainer
    x, y : integer ndarrays of shape (B, T)
        Of the step; what is said of it if it is refused.
    loss : float
        Of the step, in nats.
    start : integer ndarray of shape (B, T), optional
        As for ``accumulate``.

    Raises
    ------
    NonFiniteError, SpikeError
        If the step is refused (``tisslm.rejection``) and the run is to stop at it; then nothing
        was updated.
    """
    state = trainer.state
    trainer.grad_norm = norm = trainer.compute_grad_norm()
    if overflowed(trainer, loss, norm):
        trainer.scaler.shrink()
        state.skipped += 1
        return
    window = (x, y) if start is None else (x, y, start)

    def again() -> float:
        trainer.monitoring.begin(False)  # the search for what failed is no step
        return accumulate(trainer, *window)

    if not may_apply(trainer, window, loss, norm, again):
        return
    trainer.monitoring.before_update(trainer.scaler.current)
    state.clipped += clip(trainer, trainer.config.max_grad_norm, norm)
    logged = is_logged(state.step + 1, trainer.config, trainer.max_steps)
    trainer.optimizer.step(trainer.movement if logged else None)
    trainer.observed = trainer.monitoring.after_update()
    state.step += 1
    state.refused_in_a_row = 0
    state.loss_history.append(loss)
    trainer.scheduler.step(state.step)


def clip(trainer: Trainer, max_norm: float, norm: float) -> bool:
    """Leave a factor with the optimizer: the one that limits the norm, over the loss scale.

    Parameters
    ----------
    trainer : Trainer
    max_norm : float
        0 limits nothing.
    norm : float
        Of the gradients without the loss scale.

    Returns
    -------
    bool
        Whether it limits the norm.
    """
    factor = max_norm / (norm + CLIP_EPS) if max_norm > 0.0 else 1.0
    factor = factor if factor < 1.0 else 1.0
    admits = trainer.scaler.admit if trainer.passes.precision == "fp16" else None
    trainer.optimizer.scale_next_step(factor / trainer.scaler.current, admits)
    return factor < 1.0


def overflowed(trainer: Trainer, loss: float, norm: float) -> bool:
    """Tell whether gradients are not finite, and a smaller loss scale may be all they need."""
    half = trainer.passes.precision == "fp16"
    return half and math.isfinite(loss) and not math.isfinite(norm) and not trainer.scaler.stuck
