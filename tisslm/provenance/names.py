"""Which parameter an array is, by where it lies in memory.

What does not live here: what the array is looked at for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.memory import Parameter, Parameters

__all__ = ["ArrayNames"]

Array = NDArray[Any]


class ArrayNames:
    """The parameters of a model by the addresses of their data and gradients.

    Parameters
    ----------
    parameters : Parameters
    """

    def __init__(self, parameters: Parameters) -> None:
        self._data = {p.data.ctypes.data: p for p in parameters}
        base, item = parameters.grad_arena.ctypes.data, parameters.grad_arena.itemsize
        self._grad = {base + item * p.offset: p for p in parameters if p.trainable}

    def of_all(self, args: tuple[Any, ...]) -> list[str]:
        """Return the names of the parameters whose data or gradients are among arguments."""
        arrays = [value for value in args if isinstance(value, np.ndarray)]
        names = (self.parameter(array) or self.gradient(array) for array in arrays)
        return [name for name in names if name]

    def parameter(self, array: Array) -> str:
        """Return the name of the parameter whose data an array is, "" if it is no parameter's."""
        return _name(self._data.get(array.ctypes.data), array)

    def gradient(self, array: Array) -> str:
        """Return the name of the parameter whose gradient an array is, "" if it is none's."""
        return _name(self._grad.get(array.ctypes.data), array)


def _name(parameter: Parameter | None, array: Array) -> str:
    return parameter.name if parameter is not None and parameter.data.size == array.size else ""
