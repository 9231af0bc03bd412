"""Gradient checks of a function with a hand-written backward.

In float64, the backward of the NumPy twins is compared with central differences of their forward;
then float32, where the compiled kernels run, is compared with float64 on the same numbers.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.memory import Parameters
from tisslm.testing.differences import FLOAT64, Tally, compare_with_differences
from tisslm.testing.examples import normal

__all__ = [
    "FLOAT32",
    "Case",
    "GradientRow",
    "Problem",
    "compare_types",
    "difference_row",
    "differentiate",
    "draw",
    "draw_values",
    "rows_of",
    "starts",
    "stops",
    "type_row",
]

Array = NDArray[Any]

#: Largest difference of float32 from float64, relative to the largest element of an array: sums of
#: up to 400 products round by 24 times 1e-7, and a dozen of them follow one another in a model.
FLOAT32 = 1e-4


@dataclass(frozen=True)
class GradientRow:
    """The result of one comparison.

    Attributes
    ----------
    name : str
        ``layer_norm``, ``transformer``, or the registered name of a loss or optimizer.
    kind : str
        kernel, layer, loss, model or optimizer.
    what : str
        What was compared.
    error : float
        Largest error relative to the largest element of its array; for the direction of an
        optimizer, the remaining share of a loss.
    worst : str
        Where the error was: array, index, expected value and value.
    tolerance : float
        The bound of the error.
    n_checked : int
        How many numbers were compared.
    """

    name: str
    kind: str
    what: str
    error: float
    worst: str
    tolerance: float
    n_checked: int

    @property
    def passed(self) -> bool:
        """True if something was compared, and the error is below the tolerance."""
        return self.n_checked > 0 and self.error < self.tolerance


class Problem(ABC):
    """Outputs as a function of named values, and the gradient of a weighted sum of them.

    Attributes
    ----------
    values : mapping of str to ndarray
        The arrays that the outputs depend on; changing an element changes the outputs.
    """

    values: Mapping[str, Array]

    @abstractmethod
    def outputs(self) -> Mapping[str, Array]:
        """Run forward."""

    @abstractmethod
    def gradients(self) -> Mapping[str, Array]:
        """Run forward and backward; return the gradient of ``objective`` by each value.

        A name followed by a space and a remark is the same gradient, computed in another way.
        """

    def weights(self, name: str, like: Array) -> Array:
        """Return the weight of each element of an output in the objective."""
        return draw(f"weights of {name}", like.shape).astype(like.dtype)

    def objective(self) -> float:
        """Compute the weighted sum of the outputs."""
        return sum(float((self.weights(n, y) * y).sum()) for n, y in self.outputs().items())


@dataclass(frozen=True)
class Case:
    """A problem in both types and two sizes.

    Attributes
    ----------
    name, kind : str
    make : callable
        ``make(dtype, large)``: small enough for central differences, or large enough for every
        branch of a compiled kernel, tiles, tails and all.
    limit : int
        How many elements of each array are compared one by one.
    """

    name: str
    kind: str
    make: Callable[[str, bool], Problem]
    limit: int = 24


def rows_of(case: Case) -> list[GradientRow]:
    """Check a case in both ways."""
    return [difference_row(case), type_row(case)]


def difference_row(case: Case) -> GradientRow:
    """Compare the small problem with central differences; an exception is a failure."""
    tally = Tally()
    try:
        differentiate(tally, case.make("float64", False), limit=case.limit)
    except Exception as error:  # also of a plugin's part
        tally.fail(f"{type(error).__name__}: {error}")
    return _row(case, "float64 vs differences", tally, FLOAT64)


def type_row(case: Case) -> GradientRow:
    """Compare the large problem in both types; an exception is a failure."""
    tally = Tally()
    try:
        compare_types(tally, case.make("float32", True), case.make("float64", True))
    except Exception as error:  # also of a plugin's part
        tally.fail(f"{type(error).__name__}: {error}")
    return _row(case, "float32 vs float64", tally, FLOAT32)


def _row(case: Case, what: str, tally: Tally, tolerance: float) -> GradientRow:
    return GradientRow(
        case.name, case.kind, what, tally.error, tally.worst, tolerance, tally.n_checked
    )


def differentiate(tally: Tally, problem: Problem, *, limit: int = 24) -> None:
    """Compare every gradient of a problem in float64 with central differences."""
    gradients = {name: np.array(g) for name, g in problem.gradients().items()}
    for name, gradient in gradients.items():
        value, again, _ = name.partition(" ")
        if again:
            tally.compare(f"d {name}", gradient, gradients[value])
        else:
            x = problem.values[name]
            compare_with_differences(tally, name, problem.objective, x, gradient, limit=limit)


def compare_types(tally: Tally, rounded: Problem, exact: Problem) -> None:
    """Compare outputs and gradients of a problem in float32 with those in float64."""
    for prefix, run in (("", "outputs"), ("d ", "gradients")):
        expected = {name: np.array(a) for name, a in getattr(exact, run)().items()}
        got = {name: np.array(a) for name, a in getattr(rounded, run)().items()}
        for name, array in expected.items():
            tally.compare(f"{prefix}{name}", got[name], array)


def draw(name: str, shape: tuple[int, ...], size: float = 1.0) -> Array:
    """Draw normal numbers that depend only on a name and a shape; float32 holds them exactly."""
    return normal(np.random.default_rng(zlib.crc32(name.encode())), shape, size)


def draw_values(parameters: Parameters) -> None:
    """Set parameters to values for which every gradient is large enough to measure.

    Matrices preserve the size of their inputs, vectors are near 1, biases near 0.
    """
    for parameter in parameters:
        drawn = draw(parameter.name, parameter.shape)
        if len(parameter.shape) > 1:
            parameter.data[...] = np.float32(parameter.shape[-1] ** -0.5) * drawn.astype(np.float32)
        elif parameter.name.endswith(("bias", "beta")):
            parameter.data[...] = np.float32(0.25) * drawn.astype(np.float32)
        else:
            parameter.data[...] = 1 + np.float32(0.25) * drawn.astype(np.float32)


def starts(batch: int, time: int) -> Array:
    """Return ``start_BT`` for rows with several documents, one of a single token, all different."""
    begins = np.array([[0, 1, time // 3, 2 * time // 3 + b % 2] for b in range(batch)])
    reached = begins[:, :, None] <= np.arange(time)
    found: Array = np.where(reached, begins[:, :, None], 0).max(axis=1).astype(np.int32)
    return found


def stops(start_BT: Array | None, batch: int, time: int) -> Array:
    """Return ``stop_BT`` of these documents: where that of each token ends."""
    found = np.full((batch, time), time, np.int32)
    if start_BT is not None:
        for row, start_T in zip(found, start_BT, strict=True):
            ends = np.append(np.flatnonzero(start_T == np.arange(time)), time)
            row[:] = ends[np.searchsorted(ends, np.arange(time), side="right")]
    return found
