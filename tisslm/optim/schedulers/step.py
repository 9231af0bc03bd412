"""The learning rate that decays in steps of equal length."""

from __future__ import annotations

from typing import final

from tisslm.contracts import Optimizer, Scheduler
from tisslm.contracts.options import factor, span

__all__ = ["StepDecay"]


@final
class StepDecay(Scheduler):
    """Multiply the learning rate by ``gamma`` after every ``step_size`` updates.

    ``lr_at(s) = base_lr gamma^floor(s / step_size)``.

    Parameters
    ----------
    optimizer : Optimizer
    step_size : int or float
        Number of updates at each rate; or a fraction of ``max_steps``, below 1.
    gamma : float
        The factor, in (0, 1].
    max_steps : int, optional
        Updates of the run, for a fraction; the Trainer fills it in when it is left out.

    Raises
    ------
    ConfigError
        If an option is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        step_size: int | float = 0.3,
        gamma: float = 0.1,
        max_steps: int | None = None,
    ) -> None:
        super().__init__(optimizer)
        self.step_size = span("scheduler step: step_size", step_size, max_steps)
        self.gamma = factor("scheduler step: gamma", gamma)
        self.start()

    def lr_at(self, step: int) -> float:
        """Return the rate of the update that follows ``step`` updates."""
        return float(self.base_lr * self.gamma ** (step // self.step_size))
