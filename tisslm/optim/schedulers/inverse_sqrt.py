"""The learning rate that rises linearly, then falls as one over the root of the step."""

from __future__ import annotations

import math
from typing import final

from tisslm.contracts import Optimizer, Scheduler
from tisslm.contracts.options import span

__all__ = ["InverseSqrt"]


@final
class InverseSqrt(Scheduler):
    """Raise the learning rate linearly, then lower it as one over the root of the step.

    ``lr_at(s) = base_lr min((s + 1) / W, sqrt(W / (s + 1)))`` with W = ``warmup_steps``: the rate
    is the optimizer's in update W, and half of it in update 4 W. No end has to be known.

    Parameters
    ----------
    optimizer : Optimizer
    warmup_steps : int or float
        Updates of the linear rise, at least 1; or a fraction of ``max_steps``, below 1. A twentieth
        of the run by default.
    max_steps : int, optional
        Updates of the run, for a fraction; the Trainer fills it in when it is left out.

    Raises
    ------
    ConfigError
        If an option is out of range.

    References
    ----------
    Vaswani and others, "Attention Is All You Need", arXiv 1706.03762, section 5.3.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int | float = 0.05,
        max_steps: int | None = None,
    ) -> None:
        super().__init__(optimizer)
        self.warmup_steps = span("scheduler inverse_sqrt: warmup_steps", warmup_steps, max_steps)
        self.start()

    def lr_at(self, step: int) -> float:
        """Return the rate of the update that follows ``step`` updates."""
        done = (step + 1) / self.warmup_steps
        return self.base_lr * (done if done < 1.0 else math.sqrt(1.0 / done))
