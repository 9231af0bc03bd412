"""Training at rates that rise, and putting everything back.

Each step is one of the run: the same batches, micro-batches, precision, loss, clipping and
optimizer; only the schedule is replaced. Nothing is reported, saved or refused.

What does not live here: what follows from the losses (``curve``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tisslm.contracts import Rows
from tisslm.errors import ConfigError
from tisslm.training.session import Session
from tisslm.training.trainer import Trainer
from tisslm.workflows.lr_range.curve import Curve

__all__ = ["Rates", "range_test", "sweep"]

#: The decay of the running mean of losses, by which a loss that runs away is recognized.
KEPT = 0.8


@dataclass(frozen=True)
class Rates:
    """The rates of a range test, which rise by equal factors.

    Attributes
    ----------
    lowest, highest : float
    steps : int
        How many, at least 2.
    stop_factor : float
        The test ends where the running mean of the loss is so many times its least, above 1.

    Raises
    ------
    ConfigError
        If they are out of range.
    """

    lowest: float = 1e-6
    highest: float = 1.0
    steps: int = 100
    stop_factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.lowest < self.highest < math.inf:
            raise ConfigError(
                "range test: expected a lowest rate above 0 and a highest above that, got "
                f"{self.lowest:g} and {self.highest:g}"
            )
        if self.steps < 2:
            raise ConfigError(f"range test: expected at least 2 steps, got {self.steps}")
        if not 1.0 < self.stop_factor < math.inf:
            raise ConfigError(
                f"range test: expected a stop factor above 1, got {self.stop_factor:g}"
            )

    def __iter__(self) -> Iterator[float]:
        growth = math.log(self.highest / self.lowest) / (self.steps - 1)
        for number in range(self.steps - 1):
            yield self.lowest * math.exp(growth * number)
        yield self.highest


def range_test(
    trainer: Trainer, rates: Rates | None = None, *, on_step: Callable[[], None] | None = None
) -> Curve:
    """Train at rates that rise, from where the trainer is, and put everything back.

    All that a checkpoint has is copied before and put back after, also if an error ends the test;
    that takes as much memory once more.

    Parameters
    ----------
    trainer : Trainer
    rates : Rates, optional
    on_step : callable, optional
        Called after each step.

    Returns
    -------
    Curve

    Raises
    ------
    ConfigError
        If the trainer has no dataset.
    """
    with trainer.session.kept("range test"):
        return sweep(trainer, rates, on_step=on_step)


def sweep(
    trainer: Trainer, rates: Rates | None = None, *, on_step: Callable[[], None] | None = None
) -> Curve:
    """Do what ``range_test`` does, with a trainer that is not needed afterwards: no copy is made.

    Parameters and errors are those of ``range_test``.
    """
    session, rates = trainer.session, Rates() if rates is None else rates
    batches = session.batches("range test")
    used, losses, mean = [], [], _RunningMean()
    loss, norm = _gradients(session, next(batches))
    first = loss
    mean.add(loss)
    for rate in rates:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            break
        trainer.optimizer.set_lr(rate)
        session.step.update(norm)
        loss, norm = _gradients(session, next(batches))
        if on_step is not None:
            on_step()
        if not math.isfinite(loss) or mean.add(loss) > mean.limit(rates.stop_factor):
            break
        used.append(rate)
        losses.append(loss)
    return Curve(tuple(used), tuple(losses), rates.steps, first)


class _RunningMean:
    """The mean of the losses so far, older ones counting less, and its least value."""

    def __init__(self) -> None:
        self._sum = self._weight = 0.0
        self._least = math.inf

    def add(self, loss: float) -> float:
        self._sum = KEPT * self._sum + loss
        self._weight = KEPT * self._weight + 1.0
        mean = self._sum / self._weight
        self._least = min(self._least, mean)
        return mean

    def limit(self, factor: float) -> float:
        return self._least + (factor - 1.0) * abs(self._least)


def _gradients(session: Session, rows: Rows) -> tuple[float, float]:
    """Leave the gradients of a batch; return loss and norm. Overflows in fp16 are tried again."""
    step, scaler = session.step, session.parts.scaler
    while True:
        loss = step.gradients(rows)
        norm = scaler.norm()
        if not step.overflowed(loss, norm):
            return loss, norm
        scaler.shrink()
