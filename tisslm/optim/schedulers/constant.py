"""The constant learning rate."""

from __future__ import annotations

from typing import final

from tisslm.contracts import Optimizer, Scheduler

__all__ = ["Constant"]


@final
class Constant(Scheduler):
    """Keep the learning rate that the optimizer started with.

    Parameters
    ----------
    optimizer : Optimizer
    """

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.start()

    def lr_at(self, step: int) -> float:
        """Return ``base_lr``."""
        return self.base_lr
