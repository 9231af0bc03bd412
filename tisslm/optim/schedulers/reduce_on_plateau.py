"""The learning rate that is reduced when evaluations stop improving.

A run is ended in this case by ``training.early_stopping_patience``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from tisslm.config.metrics import resolve_mode
from tisslm.contracts import Optimizer, Scheduler
from tisslm.contracts.options import count, lowest, number, updates, word
from tisslm.contracts.options import factor as factor_of
from tisslm.errors import ConfigError

__all__ = ["ReduceOnPlateau"]

_NAME = "scheduler reduce_on_plateau"


@final
class ReduceOnPlateau(Scheduler):
    """Multiply the learning rate by a factor when a metric has not improved for a while.

    ``lr_at(s) = max(min_lr, base_lr factor^r)`` after r reductions, times ``(s + 1) / (W + 1)`` for
    s < W = ``warmup_steps``. An evaluation that is better than the best before it by more than
    ``min_delta`` starts the count anew; after ``patience`` others in a row, r grows by one. During
    the ``cooldown`` evaluations after that, none is counted.

    Parameters
    ----------
    optimizer : Optimizer
    factor : float
        The factor, in (0, 1].
    patience : int
        Number of evaluations in a row without an improvement after which the rate is lowered, at
        least 1. PyTorch's scheduler lowers it one evaluation later.
    metric : str
        A metric of the evaluations, such as "eval/loss".
    mode : {"auto", "min", "max"}
        Whether less or more is better; "auto" is "max" for accuracies, else "min".
    min_delta : float
        By how much a value must be better to count, in units of the metric.
    cooldown : int
        Number of evaluations after a reduction that are not counted.
    min_lr : float
        The rate is never lowered below it.
    warmup_steps : int
        Updates of a linear rise at the start.
    min_lr_ratio : float, optional
        ``min_lr`` as a share of the optimizer's rate, in its place.

    Raises
    ------
    ConfigError
        If an option is out of range.
    """

    needs_evaluations: ClassVar[bool] = True

    #: Options that ``tisslm.testing`` tries beside the defaults.
    test_options: ClassVar[Sequence[Mapping[str, Any]]] = (
        {},
        {"factor": 0.5, "patience": 1},
        {"factor": 0.1, "patience": 2, "cooldown": 1, "min_lr": 0.004, "warmup_steps": 7},
        {"mode": "max", "patience": 1, "min_delta": 0.2},
    )

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 0.1,
        patience: int = 10,
        metric: str = "eval/loss",
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        warmup_steps: int = 0,
        min_lr_ratio: float | None = None,
    ) -> None:
        super().__init__(optimizer)
        self.factor = factor_of(f"{_NAME}: factor", factor)
        self.patience = updates(f"{_NAME}: patience", patience, "evaluations")
        self.metric = word(f"{_NAME}: metric", metric)
        known = ("auto", "min", "max")
        self.mode = resolve_mode(self.metric, word(f"{_NAME}: mode", mode, known))
        self.min_delta = number(f"{_NAME}: min_delta", min_delta, 0)
        self.cooldown = count(f"{_NAME}: cooldown", cooldown)
        self.min_lr = lowest("reduce_on_plateau", min_lr, min_lr_ratio, self.base_lr)
        self.warmup_steps = count(f"{_NAME}: warmup_steps", warmup_steps)
        self._best: float | None = None
        self._reductions = self._waited = self._resting = 0
        self.start()

    def lr_at(self, step: int) -> float:
        """Return the rate of the update that follows ``step`` updates, given the reductions."""
        rate = max(self.min_lr, self.base_lr * self.factor**self._reductions)
        if step < self.warmup_steps:
            rate *= (step + 1) / (self.warmup_steps + 1)
        return float(rate)

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Count an evaluation; the rate changes at the next ``step``.

        Raises
        ------
        ConfigError
            If the evaluation lacks the metric.
        """
        if self.metric not in metrics:
            raise ConfigError(
                f"{_NAME}: metric: expected a metric of the evaluations of this run, which are "
                f'{", ".join(sorted(metrics))}, got "{self.metric}"; choose one of them'
            )
        value = float(metrics[self.metric])
        if self._is_better(value):
            self._best, self._waited = value, 0
        elif self._resting == 0:
            self._waited += 1
        self._resting = max(0, self._resting - 1)
        if self._waited >= self.patience:
            self._reductions, self._waited, self._resting = self._reductions + 1, 0, self.cooldown

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self._best is None:
            return True
        gain = self._best - value if self.mode == "min" else value - self._best
        return gain > self.min_delta

    def state(self) -> dict[str, Any]:
        """Return the best value and the counts."""
        return {
            "best": self._best,
            "reductions": self._reductions,
            "waited": self._waited,
            "resting": self._resting,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned."""
        best = state["best"]
        reductions, waited, resting = (
            count(f"{_NAME}: {name}", state[name]) for name in ("reductions", "waited", "resting")
        )
        self._best = None if best is None else float(best)
        self._reductions, self._waited, self._resting = reductions, waited, resting
