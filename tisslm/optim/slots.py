"""The state arrays of an optimizer: flat like the parameters, and accessible by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.memory import Arena, Parameters

__all__ = ["Slots"]

Array = NDArray[Any]


class Slots:
    """State arrays of shape (P,), zero at first, and the number of updates made.

    Parameters
    ----------
    parameters : Parameters
        Parameters whose flat data determines shape, dtype and the named views.
    *names : str
        Names of the arrays, such as ``"m"`` and ``"v"``.

    Attributes
    ----------
    flat : dict of str to ndarray of shape (P,)
        The arrays by name.
    step : ndarray of shape (1,), int64
        Number of updates; an array, so that it is saved and loaded like the others.
    """

    def __init__(self, parameters: Parameters, *names: str) -> None:
        like_P = parameters.data
        self._parameters = parameters
        self.flat = {n: Arena(like_P.nbytes).take(like_P.shape, like_P.dtype) for n in names}
        self.step: NDArray[np.int64] = np.zeros(1, dtype=np.int64)

    def part(self, name: str, where: slice) -> Array | None:
        """Return a slice of a state array, or None if there is no array of that name."""
        flat_P = self.flat.get(name)
        return None if flat_P is None else flat_P[where]

    def state(self) -> dict[str, Array]:
        """Return views named ``<parameter>/<slot>``, with the parameter's shape, and ``step``."""
        return self._parameters.by_parameter({"step": self.step, **self.flat})
