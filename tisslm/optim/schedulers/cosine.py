"""The learning rate that decays along half a cosine."""

from __future__ import annotations

from typing import final

from tisslm.contracts import Optimizer, Scheduler
from tisslm.contracts.options import lowest, updates, warmup
from tisslm.optim.schedulers._curves import half_cosine, warmup_then

__all__ = ["Cosine"]


@final
class Cosine(Scheduler):
    """Lower the learning rate along half a cosine, flat at both ends.

    ``lr_at(s) = base_lr (s + 1) / (W + 1)`` for s < W = ``warmup_steps``; from there
    ``min_lr + (base_lr - min_lr) (1 + cos(pi x)) / 2``, ``x = (s - W) / (max_steps - W)``.

    Parameters
    ----------
    optimizer : Optimizer
    max_steps : int
        Updates until ``min_lr``; the Trainer fills in the run's when it is left out.
    warmup_steps : int or float
        Updates of the linear rise, below ``max_steps``; or a fraction of ``max_steps``, below 1.
        No rise by default.
    min_lr : float
        The rate from ``max_steps`` on, at most the optimizer's.
    min_lr_ratio : float, optional
        The same as a share of the optimizer's rate, in place of ``min_lr``.

    Raises
    ------
    ConfigError
        If an option is out of range.

    References
    ----------
    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
    arXiv 1608.03983 (one period of it).
    """

    max_steps: int

    def __init__(
        self,
        optimizer: Optimizer,
        max_steps: int,
        warmup_steps: int | float = 0,
        min_lr: float = 0.0,
        min_lr_ratio: float | None = None,
    ) -> None:
        super().__init__(optimizer)
        self.max_steps: int = updates("scheduler cosine: max_steps", max_steps)
        self.warmup_steps = warmup("scheduler cosine: warmup_steps", warmup_steps, self.max_steps)
        self.min_lr = lowest("cosine", min_lr, min_lr_ratio, self.base_lr)
        self.start()

    def lr_at(self, step: int) -> float:
        """Return the rate of the update that follows ``step`` updates."""
        return warmup_then(
            half_cosine,
            step,
            base_lr=self.base_lr,
            min_lr=self.min_lr,
            warmup_steps=self.warmup_steps,
            max_steps=self.max_steps,
        )
