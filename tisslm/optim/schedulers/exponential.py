"""The learning rate that decays exponentially."""

from __future__ import annotations

from typing import final

from tisslm.contracts import Optimizer, Scheduler
from tisslm.contracts.options import factor

__all__ = ["ExponentialDecay"]


@final
class ExponentialDecay(Scheduler):
    """Multiply the learning rate by ``gamma`` after every update.

    ``lr_at(s) = base_lr gamma^s``. The default falls to a tenth in 2300 updates; to reach a share
    r of the rate after n updates, take ``gamma = r ** (1 / n)``.

    Parameters
    ----------
    optimizer : Optimizer
    gamma : float
        The factor, in (0, 1].

    Raises
    ------
    ConfigError
        If ``gamma`` is out of range.
    """

    def __init__(self, optimizer: Optimizer, gamma: float = 0.999) -> None:
        super().__init__(optimizer)
        self.gamma = factor("scheduler exponential: gamma", gamma)
        self.start()

    def lr_at(self, step: int) -> float:
        """Return the rate of the update that follows ``step`` updates."""
        return float(self.base_lr * self.gamma**step)
