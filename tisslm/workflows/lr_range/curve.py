"""The result of a range test: losses by learning rate, and the rate that they suggest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Curve"]

FloatArray = NDArray[np.float64]

#: Half the width of the smoothing window, as a share of the planned number of points.
WIDTH = 0.05

#: With fewer points, a slope is noise.
FEWEST = 8


@dataclass(frozen=True)
class Curve:
    """Losses by learning rate.

    Attributes
    ----------
    rates : tuple of float
        The learning rates, ascending.
    losses : tuple of float
        The loss of the batch after the update with each rate, in nats; all are finite.
    planned : int
        How many rates there would have been if the loss had not diverged.
    first_loss : float
        Loss of the first batch, before any update.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    planned: int
    first_loss: float

    @property
    def diverged(self) -> bool:
        """True if the loss diverged before the highest rate."""
        return len(self.rates) < self.planned

    @cached_property
    def smoothed(self) -> tuple[float, ...]:
        """The losses, each averaged with its neighbours by triangular weights.

        With w points on each side: ``sum_j (w + 1 - |j|) loss_(i + j)`` over those that exist,
        divided by the sum of their weights. The window is symmetric, so that the curve is not
        shifted.
        """
        if not self.losses:
            return ()
        width = max(1, round(WIDTH * self.planned))
        weights = (width + 1.0) - np.abs(np.arange(-width, width + 1))
        # in full, and cut: "same" would return the length of the longer of the two
        cut = slice(width, width + len(self.losses))
        total = np.convolve(np.array(self.losses), weights, "full")[cut]
        there = np.convolve(np.ones(len(self.losses)), weights, "full")[cut]
        return tuple((total / there).tolist())

    @property
    def least(self) -> float | None:
        """The rate at which the smoothed loss is least; at higher rates, training gets worse."""
        return self.rates[int(np.argmin(self.smoothed))] if self.rates else None

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss falls most steeply by the logarithm of the rate.

        Only rates up to that of the least smoothed loss count. None if the test has too few rates,
        or the loss never falls.
        """
        if len(self.rates) < FEWEST:
            return None
        losses: FloatArray = np.array(self.smoothed)
        slopes = np.gradient(losses, np.log(self.rates))
        before = slopes[: int(np.argmin(losses)) + 1]
        best = int(np.argmin(before))
        return self.rates[best] if before[best] < 0.0 else None

    def facts(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "suggestion": self.suggestion,
            "least": self.least,
            "diverged": self.diverged,
            "first_loss": self.first_loss,
            "rates": list(self.rates),
            "losses": list(self.losses),
            "smoothed": list(self.smoothed),
        }
