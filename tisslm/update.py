"""What follows the gradients of a step: check, show, clip, update, and move the schedule on.

What does not live here: the passes that make the gradients (``Trainer.train_step``), and the
arithmetic of the update (the optimizer).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tisslm.errors import NonFiniteError
from tisslm.reporting import is_logged, observe

if TYPE_CHECKING:
    from tisslm.trainer import Trainer

__all__ = ["apply", "clip"]

#: Added to the norm before it divides, as in PyTorch's clip_grad_norm_.
CLIP_EPS = 1e-6


def apply(trainer: Trainer, loss: float) -> None:
    """Make one update of the gradients that are there, or none if they overflowed in fp16.

    Parameters
    ----------
    trainer : Trainer
    loss : float
        Of the step, in nats.

    Raises
    ------
    NonFiniteError
        If the loss is not finite, or the gradients are not and no loss scale explains it; then
        nothing was updated.
    """
    state = trainer.state
    trainer.grad_norm = norm = trainer.compute_grad_norm()
    _check_finite(trainer, loss, norm)
    if not math.isfinite(norm):
        trainer.scaler.shrink()
        state.skipped += 1
        return
    if trainer.monitors and is_logged(state.step + 1, trainer.config, trainer.max_steps):
        trainer.scaler.unscale()
        trainer.observed = observe(trainer.monitors, trainer.model.parameters)
    clip(trainer, trainer.config.max_grad_norm, norm)
    trainer.optimizer.step()
    state.step += 1
    state.loss_history.append(loss)
    trainer.scheduler.step(state.step)


def clip(trainer: Trainer, max_norm: float, norm: float) -> None:
    """Leave a factor with the optimizer: the one that limits the norm, over the loss scale.

    Parameters
    ----------
    trainer : Trainer
    max_norm : float
        0 limits nothing.
    norm : float
        Of the gradients without the loss scale.
    """
    factor = max_norm / (norm + CLIP_EPS) if max_norm > 0.0 else 1.0
    factor = factor if factor < 1.0 else 1.0
    trainer.optimizer.scale_next_step(factor / trainer.scaler.current)


def _check_finite(trainer: Trainer, loss: float, norm: float) -> None:
    half = trainer.passes.precision == "fp16"  # whose gradients may overflow under their scale
    if math.isfinite(loss) and (half or math.isfinite(norm)):
        return
    advice = ', or train with training.precision = "bf16", which has the range of fp32'
    raise NonFiniteError(
        f"step {trainer.current_step + 1}: the loss is {loss} and the gradient norm {norm}; "
        "the parameters are those of the step before. Lower training.learning_rate, "
        f"lengthen the warm-up, or look at the data of this step{advice if half else ''}"
    )
