"""Arrays that an optimizer keeps: state by name, and what its updates measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import UpdateMeter
from tisslm.memory import Arena, ParameterGroup, Parameters
from tisslm.memory.arenas import aligned
from tisslm.memory.shards import ParameterShard

__all__ = ["BLOCK", "Gauge", "Kinds", "nbytes_of", "zeros"]

Array = NDArray[Any]

#: Shapes and types by name.
Kinds = Mapping[str, tuple[tuple[int, ...], Any]]

#: Elements whose moves are added up together.
BLOCK = 16384


def nbytes_of(kinds: Kinds) -> dict[str, int]:
    """Return the bytes of each array."""
    return {
        name: int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        for name, (shape, dtype) in kinds.items()
    }


def zeros(kinds: Kinds) -> dict[str, Array]:
    """Return arrays of zeros, in one block of memory that the threads have touched."""
    arena = Arena(sum(map(aligned, nbytes_of(kinds).values())))
    return {name: arena.take(shape, dtype) for name, (shape, dtype) in kinds.items()}


class Gauge:
    """Where kernels leave how far they move the parameters, a map at a time.

    Parameters
    ----------
    parameters : Parameters
    runs : int
        Sums of a map at most.
    """

    def __init__(self, parameters: Parameters | ParameterShard, runs: int) -> None:
        self._groups = parameters.groups
        self._sums_K2: Array = np.zeros((runs, 2))
        self._movement: UpdateMeter | None = None

    @property
    def measures(self) -> bool:
        """Whether anybody wants to know."""
        return self._movement is not None

    @contextmanager
    def told(self, movement: UpdateMeter | None) -> Iterator[None]:
        """Measure what is updated within, if somebody wants to know."""
        self._movement = movement
        if movement is not None:
            for group in self._groups:
                movement.part(group)[...] = 0.0
        try:
            yield
        finally:
            self._movement = None

    def sums(self, runs: int) -> Array:
        """Return the array for the sums of a map."""
        return self._sums_K2[:runs]

    def wanted(self, elements: int) -> Array | None:
        """Return the array for the sums of each 16384 elements, or None if nobody wants them."""
        return self.sums(-(-elements // BLOCK)) if self.measures else None

    def add(self, group: ParameterGroup, sums_K2: Array | None) -> None:
        """Add the sums of a map to those of its group."""
        if self._movement is not None and sums_K2 is not None:
            self._movement.part(group)[0] += sums_K2.sum(axis=0)
