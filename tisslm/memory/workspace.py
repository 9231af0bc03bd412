"""Activations and scratch: the buffers that the layers' plans ask for, in one block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.memory.arenas import Arena, aligned

__all__ = [
    "Workspace",
]

Array = NDArray[Any]


class Workspace:
    """Buffers for activations and scratch, made once for the largest pass, viewed by smaller ones.

    Parameters
    ----------
    sizes : mapping of str to int
        Bytes by buffer name.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = dict(sizes)
        arena = Arena(sum(aligned(n) for n in self.sizes.values()))
        self._blocks = {name: arena.take((n,), np.uint8) for name, n in self.sizes.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(self.sizes.values())

    def fits(self, sizes: Mapping[str, int]) -> bool:
        """Tell whether buffers of these sizes can be viewed in this workspace."""
        return all(self.sizes.get(name, -1) >= n for name, n in sizes.items())

    def view(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return the front of a buffer as an array of this shape and type."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        array: Array = self._blocks[name][:nbytes].view(dtype).reshape(shape)
        return array
