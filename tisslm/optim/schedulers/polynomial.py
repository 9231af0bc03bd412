"""The learning rate that rises linearly, then falls as a power of what is left of the run."""

from __future__ import annotations

from typing import final

from tisslm.contracts import Optimizer, Scheduler
from tisslm.contracts.options import lowest, number, updates, warmup
from tisslm.optim.schedulers._curves import warmup_then

__all__ = ["Polynomial"]


@final
class Polynomial(Scheduler):
    """Raise the learning rate linearly, then lower it by a power of the share that is left.

    ``lr_at(s) = base_lr (s + 1) / (W + 1)`` for s < W = ``warmup_steps``; from there
    ``min_lr + (base_lr - min_lr) (1 - x)^power``, ``x = (s - W) / (max_steps - W)``.

    Parameters
    ----------
    optimizer : Optimizer
    max_steps : int
        Updates until ``min_lr``; the Trainer fills in the run's when it is left out.
    power : float
        1 is a line; more falls faster at first, less at last.
    warmup_steps : int or float
        Updates of the linear rise, below ``max_steps``; or a fraction of ``max_steps``, below 1.
        A twentieth of the run by default.
    min_lr : float
        The rate from ``max_steps`` on, at most the optimizer's.
    min_lr_ratio : float, optional
        The same as a share of the optimizer's rate, in place of ``min_lr``.

    Raises
    ------
    ConfigError
        If an option is out of range.
    """

    max_steps: int

    def __init__(
        self,
        optimizer: Optimizer,
        max_steps: int,
        power: float = 1.0,
        warmup_steps: int | float = 0.05,
        min_lr: float = 0.0,
        min_lr_ratio: float | None = None,
    ) -> None:
        super().__init__(optimizer)
        self.max_steps: int = updates("scheduler polynomial: max_steps", max_steps)
        self.power = number("scheduler polynomial: power", power, 0)
        self.warmup_steps = warmup(
            "scheduler polynomial: warmup_steps", warmup_steps, self.max_steps
        )
        self.min_lr = lowest("polynomial", min_lr, min_lr_ratio, self.base_lr)
        self.start()

    def lr_at(self, step: int) -> float:
        """Return the rate of the update that follows ``step`` updates."""
        return warmup_then(
            self._left,
            step,
            base_lr=self.base_lr,
            min_lr=self.min_lr,
            warmup_steps=self.warmup_steps,
            max_steps=self.max_steps,
        )

    def _left(self, x: float) -> float:
        return float((1.0 - x) ** self.power)
