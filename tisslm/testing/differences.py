"""Central differences of fourth order, and the largest error of many comparisons.

References
----------
Abramowitz and Stegun, "Handbook of Mathematical Functions", table 25.2 (five-point formula).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLOAT64", "Tally", "compare_with_differences"]

Array = NDArray[Any]

#: Distance of the points. The formula is off by h^4/30 of a fifth derivative, 3e-14 of it, and by
#: rounding of about 1e-16/h = 1e-13 of the objective.
STEP = 1e-3

#: Largest difference of a backward in float64 from central differences, relative to the largest
#: element of its array: far above both errors of the formula, and far below any wrong sign, factor
#: or index.
FLOAT64 = 1e-6


class Tally:
    """The largest error of many comparisons, and where it occurred.

    Attributes
    ----------
    error : float
        Largest absolute difference, relative to the largest expected value of its array; inf if a
        value is NaN, or if all expected values are zero, so that nothing is tested.
    worst : str
    n_checked : int
        How many numbers were compared.
    """

    def __init__(self) -> None:
        self.error = 0.0
        self.worst = ""
        self.n_checked = 0

    def compare(self, label: str, got: Any, expected: Any, scale: float = 0.0) -> None:
        """Compare two arrays.

        Parameters
        ----------
        label : str
        got, expected : array_like of the same shape
        scale : float
            The size of the terms whose sums the values are, if these may cancel to zero.
        """
        got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
        if got.shape != expected.shape or got.size == 0:
            self._keep(math.inf, f"{label}: expected shape {expected.shape}, got {got.shape}")
            return
        self.n_checked += got.size
        size = max(float(np.abs(expected).max()), scale)
        if size == 0.0:
            self._keep(math.inf, f"{label}: expected values other than zero, or nothing is tested")
            return
        with np.errstate(invalid="ignore"):
            errors = np.abs(got - expected) / size
        errors = np.where(np.isnan(errors), math.inf, errors)
        index = np.unravel_index(int(errors.argmax()), errors.shape)
        place = ", ".join(map(str, index))
        text = f"{label}[{place}]" if place else label
        values = f"expected {expected[index]:.6g}, got {got[index]:.6g}"
        self._keep(float(errors[index]), f"{text}: {values}")

    def keep(self, error: float, text: str) -> None:
        """Count an error that was computed elsewhere."""
        self.n_checked += 1
        self._keep(math.inf if math.isnan(error) else error, text)

    def fail(self, text: str) -> None:
        """Count a failure that is independent of the numbers."""
        self._keep(math.inf, text)

    def _keep(self, error: float, text: str) -> None:
        if error > self.error or not self.worst:
            self.error, self.worst = max(error, self.error), text


def compare_with_differences(
    tally: Tally,
    label: str,
    objective: Callable[[], float],
    x: Array,
    gradient: Array,
    *,
    limit: int = 24,
) -> None:
    """Compare a gradient with central differences of an objective.

    Up to ``limit`` elements are compared one by one, the largest of the gradient and random ones;
    and then the derivative along one random direction, to which every element of ``x`` contributes.

    Parameters
    ----------
    tally : Tally
    label : str
        Name of ``x``.
    objective : callable
        A function of ``x``, whose elements are changed in place and restored.
    x : ndarray of float64
    gradient : ndarray of the same shape
    limit : int
    """
    if np.shape(gradient) != x.shape:
        tally.fail(f"d {label}: expected shape {x.shape}, got {np.shape(gradient)}")
        return
    rng = np.random.default_rng(x.size)
    flat_gradient = np.asarray(gradient, np.float64).reshape(-1)
    expected, got = np.zeros(x.size), np.zeros(x.size)
    chosen = _some(rng, flat_gradient, limit)
    for index in chosen:
        direction = np.zeros(x.size)
        direction[index] = 1.0
        expected[index] = _difference(objective, x, direction.reshape(x.shape))
        got[index] = flat_gradient[index]
    tally.compare(f"d {label}", got.reshape(x.shape), expected.reshape(x.shape))
    tally.n_checked -= x.size - len(chosen)  # the zeros are there to keep the indices
    signs = rng.choice([-1.0, 1.0], x.size) / math.sqrt(x.size)
    along = _difference(objective, x, signs.reshape(x.shape))
    scale = float(np.linalg.norm(expected)) / math.sqrt(len(chosen))
    tally.compare(f"d {label} along a direction", float(flat_gradient @ signs), along, scale)


def _some(rng: np.random.Generator, gradient: Array, limit: int) -> Array:
    """Choose elements: the largest of the gradient, NaN first, and others at random."""
    everything = np.arange(gradient.size)
    if gradient.size <= limit:
        return everything
    largest = np.argsort(np.abs(gradient))[-max(1, limit // 3) :]
    others = np.setdiff1d(everything, largest)
    return np.append(largest, rng.choice(others, limit - len(largest), replace=False))


def _difference(objective: Callable[[], float], x: Array, direction: Array) -> float:
    """Compute ``(f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12 h`` along a direction."""
    centre = x.copy()
    values = []
    for steps in (-2, -1, 1, 2):
        x[...] = centre + steps * STEP * direction
        values.append(objective())
    x[...] = centre
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * STEP)
