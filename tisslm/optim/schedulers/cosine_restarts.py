"""The learning rate that decays along half a cosine again and again."""

from __future__ import annotations

import math
from typing import final

from tisslm.contracts import Optimizer, Scheduler
from tisslm.contracts.options import lowest, number, updates, warmup
from tisslm.errors import ConfigError
from tisslm.optim.schedulers._curves import half_cosine, warmup_then

__all__ = ["CosineRestarts"]

#: Cycles that are counted through at each update.
MOST = 65536


@final
class CosineRestarts(Scheduler):
    """Lower the learning rate along half a cosine, begin anew at the top, and so on.

    ``lr_at(s) = base_lr (s + 1) / (W + 1)`` for s < W = ``warmup_steps``. The rest of the run has
    ``cycles`` cycles, each ``growth`` times as long as the one before; within one,
    ``min_lr + (base_lr - min_lr) (1 + cos(pi y)) / 2``, with y the share of it that is over.

    Parameters
    ----------
    optimizer : Optimizer
    max_steps : int
        Updates until the end of the last cycle; the Trainer fills in the run's when it is left out.
    cycles : int
        At most 65536.
    growth : float
        At least 1.
    warmup_steps : int or float
        Updates of the linear rise, below ``max_steps``; or a fraction of ``max_steps``, below 1.
        No rise by default.
    min_lr : float
        The rate at the end of each cycle, and from ``max_steps`` on; at most the optimizer's.
    min_lr_ratio : float, optional
        The same as a share of the optimizer's rate, in place of ``min_lr``.

    Raises
    ------
    ConfigError
        If an option is out of range.

    References
    ----------
    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
    arXiv 1608.03983 (``growth`` is its T_mult).
    """

    max_steps: int

    def __init__(
        self,
        optimizer: Optimizer,
        max_steps: int,
        cycles: int = 4,
        growth: float = 1.0,
        warmup_steps: int | float = 0,
        min_lr: float = 0.0,
        min_lr_ratio: float | None = None,
    ) -> None:
        super().__init__(optimizer)
        where = "scheduler cosine_restarts"
        self.max_steps: int = updates(f"{where}: max_steps", max_steps)
        self.cycles = updates(f"{where}: cycles", cycles, "cycles")
        self.growth = number(f"{where}: growth", growth, 1.0)
        self.warmup_steps = warmup(f"{where}: warmup_steps", warmup_steps, self.max_steps)
        self.min_lr = lowest("cosine_restarts", min_lr, min_lr_ratio, self.base_lr)
        self._lengths = self._growing(where)
        self.start()

    def _growing(self, where: str) -> list[float]:
        """Return the length of each cycle, as a multiple of the first one's."""
        if self.cycles > MOST:
            raise ConfigError(
                f"{where}: cycles: expected at most {MOST}, got {self.cycles}; take fewer"
            )
        try:
            lengths = [self.growth**k for k in range(self.cycles)]
        except OverflowError:
            lengths = [math.inf]
        if not math.isfinite(sum(lengths)):
            raise ConfigError(
                f"{where}: growth: expected lengths of {self.cycles} cycles that are finite, got "
                f"{self.growth:g} for each; take less, or fewer cycles"
            )
        return lengths

    def lr_at(self, step: int) -> float:
        """Return the rate of the update that follows ``step`` updates."""
        return warmup_then(
            self._fall,
            step,
            base_lr=self.base_lr,
            min_lr=self.min_lr,
            warmup_steps=self.warmup_steps,
            max_steps=self.max_steps,
        )

    def _fall(self, x: float) -> float:
        """Return 1 where a cycle begins, and 0 just before the next does."""
        over = x * sum(self._lengths)
        for length in self._lengths:
            if over < length:
                return half_cosine(over / length)
            over -= length
        return 0.0
