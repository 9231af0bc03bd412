"""Training at rising learning rates, and restoring the trainer.

Each step is one of the run: the same batches, micro-batches, precision, loss, clipping and
optimizer; only the schedule is replaced. Nothing is reported or saved, and no step is skipped.
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

#: The decay of the running mean of losses, by which a diverging loss is recognized.
KEPT = 0.8


@dataclass(frozen=True)
class Rates:
    """The learning rates of a range test, each a constant multiple of the one before.

    Attributes
    ----------
    lowest, highest : float
    steps : int
        Number of rates, at least 2.
    stop_factor : float
        The test ends when the running mean of the loss exceeds this multiple of its least value;
        above 1.

    Raises
    ------
    ConfigError
        If a value is out of range.
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
    """Train at rising rates from the current state of the trainer, and restore that state.

    Everything that a checkpoint holds is copied before and restored after, also if an error ends
    the test; the copy needs as much memory again.

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
    """Run a range test with a trainer that is not needed afterwards: no copy is made.

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
    """The exponential running mean of the losses, and its least value so far."""

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
        loss = step.gradients(rows).loss
        norm = scaler.norm()
        if not step.overflowed(loss, norm):
            return loss, norm
        scaler.shrink()
