"""The workspace: one block of memory with all activations and scratch buffers of a pass."""

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
    """Named buffers for activations and scratch, made for the largest pass, shared by smaller ones.

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
        """The bytes of all buffers."""
        return sum(self.sizes.values())

    def fits(self, sizes: Mapping[str, int]) -> bool:
        """Return True if every buffer of these sizes fits in the buffer of that name."""
        return all(self.sizes.get(name, -1) >= n for name, n in sizes.items())

    def view(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return the beginning of a buffer as an array of this shape and type."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        array: Array = self._blocks[name][:nbytes].view(dtype).reshape(shape)
        return array
