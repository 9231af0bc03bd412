"""WSD (warm-up, stable, decay): a learning rate that falls only at the end of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from types import MappingProxyType
from typing import final

from tisslm.contracts import Optimizer, Scheduler
from tisslm.contracts.options import count, lowest
from tisslm.errors import ConfigError

__all__ = ["WSD"]

#: The falls from 1 at 0 to 0 at 1, by the name of their shape.
SHAPES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "linear": lambda x: 1.0 - x,
        "sqrt": lambda x: 1.0 - math.sqrt(x),
        "cosine": lambda x: 0.5 * (1.0 + math.cos(math.pi * x)),
    }
)


@final
class WSD(Scheduler):
    """Raise the learning rate linearly, keep it, and lower it in the last updates.

    With W = ``warmup_steps``, D = ``decay_steps`` and S = ``max_steps - D``:
    ``lr_at(s) = base_lr (s + 1) / (W + 1)`` for s < W; ``base_lr`` until S; from there
    ``min_lr + (base_lr - min_lr) f(x)`` with ``x = (s - S) / D``; ``min_lr`` from ``max_steps`` on.

    Parameters
    ----------
    optimizer : Optimizer
    max_steps : int
        Updates until ``min_lr``; the Trainer fills in the run's when it is left out.
    warmup_steps : int or float
        Updates of the rise; or a fraction of ``max_steps``, below 1.
    decay_steps : int or float
        Updates of the fall; or a fraction of ``max_steps``, below 1. A tenth is enough, by the
        first reference.
    min_lr : float
        The rate from ``max_steps`` on, at most the optimizer's.
    decay_shape : {"linear", "sqrt", "cosine"}
        f: ``1 - x``, ``1 - sqrt(x)`` or ``(1 + cos(pi x)) / 2``.
    min_lr_ratio : float, optional
        ``min_lr`` as a share of the optimizer's rate, in its place.

    Raises
    ------
    ConfigError
        If an option is out of range, or rise and fall are longer than the run.

    References
    ----------
    Hu and others, "MiniCPM: Unveiling the Potential of Small Language Models with Scalable
    Training Strategies", arXiv 2404.06395. Shapes: Hägele and others, "Scaling Laws and
    Compute-Optimal Training Beyond Fixed Training Durations", arXiv 2405.18392.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_steps: int,
        warmup_steps: int | float = 0.05,
        decay_steps: int | float = 0.1,
        min_lr: float = 0.0,
        decay_shape: str = "linear",
        min_lr_ratio: float | None = None,
    ) -> None:
        super().__init__(optimizer)
        if decay_shape not in SHAPES:
            raise ConfigError(
                f"scheduler wsd: decay_shape: expected one of {', '.join(SHAPES)}, "
                f"got {decay_shape!r:.200}"
            )
        self.max_steps = count("scheduler wsd: max_steps", max_steps, 1)
        self.min_lr = lowest("wsd", min_lr, min_lr_ratio, self.base_lr)
        self.decay_shape = decay_shape
        rise = _duration("warmup_steps", warmup_steps, self.max_steps)
        fall = _duration("decay_steps", decay_steps, self.max_steps)
        if rise + fall > self.max_steps:
            raise ConfigError(
                f"scheduler wsd: expected warmup_steps + decay_steps of at most max_steps = "
                f"{self.max_steps}, got {warmup_steps!r:.200} and {decay_steps!r}; shorten one"
            )
        self.warmup_steps = round(rise)
        # two halves of an odd number may both be rounded up; the rise has the odd update
        self.decay_steps = min(round(fall), self.max_steps - self.warmup_steps)
        self.start()

    def lr_at(self, step: int) -> float:
        """Return the rate of the update that follows ``step`` updates."""
        if step >= self.max_steps:
            return self.min_lr
        if step < self.warmup_steps:
            return self.base_lr * (step + 1) / (self.warmup_steps + 1)
        stable_until = self.max_steps - self.decay_steps
        if step <= stable_until:
            return self.base_lr
        share = SHAPES[self.decay_shape]((step - stable_until) / self.decay_steps)
        return self.base_lr * share + self.min_lr * (1.0 - share)


def _duration(option: str, value: object, max_steps: int) -> float:
    """Return a number of updates, given as such or as a fraction of ``max_steps``, not rounded."""
    if isinstance(value, Real) and not isinstance(value, bool):
        given = float(value)
        if isinstance(value, Integral) and given >= 0.0:
            return given
        if 0.0 <= given < 1.0:
            return given * max_steps
    raise ConfigError(
        f"scheduler wsd: {option}: expected an integer >= 0 or a fraction below 1, got "
        f"{value!r:.200}"
    )
