"""The learning rate as somebody's own function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import final

from tisslm.contracts import Optimizer, Scheduler
from tisslm.errors import ConfigError

__all__ = ["Function"]


@final
class Function(Scheduler):
    """Multiply the optimizer's rate by a function of the number of updates made.

    ``lr_at(s) = base_lr function(s)``. ``Trainer(scheduler=function)`` builds it. The function is
    to be pure: a resumed run calls it again, and no checkpoint has it.

    Parameters
    ----------
    optimizer : Optimizer
    function : callable
        Takes the number of updates made, from 0, and returns a finite factor, at least 0. It is
        asked after the last update, too: a table needs a value for ``max_steps``.

    Raises
    ------
    ConfigError
        If it is no function, or returns something else or fails; at each step that it does.
    """

    def __init__(self, optimizer: Optimizer, function: Callable[[int], float]) -> None:
        super().__init__(optimizer)
        if not callable(function):
            raise ConfigError(
                "scheduler function: function: expected a function of the number of updates, got "
                f"{function!r:.200}; give one"
            )
        self._function = function
        self.start()

    def lr_at(self, step: int) -> float:
        """Return the rate of the update that follows ``step`` updates."""
        try:
            found = self._function(step)
        except Exception as error:  # whatever somebody's function raises
            raise ConfigError(
                "scheduler function: expected a factor of the learning rate after "
                f"{step} updates, got {type(error).__name__}: {error}; let the function return one "
                "for every number of updates up to training.max_steps"
            ) from error
        if not isinstance(found, Real) or not math.isfinite(found) or found < 0.0:
            raise ConfigError(
                "scheduler function: expected a finite factor >= 0 of the learning rate after "
                f"{step} updates, got {found!r:.200}"
            )
        return self.base_lr * float(found)
