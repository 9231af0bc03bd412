"""Processes that train one model together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    pass

__all__ = [
    "Communicator",
]

FloatArray = NDArray[Any]


class Communicator(ABC):
    """The processes of a run and the sums they form together."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of processes."""

    @abstractmethod
    def sum_scalars(self, values: Sequence[float]) -> list[float]:
        """Add a few numbers over all ranks, in rank order; every rank gets the same result."""

    @abstractmethod
    def sum_gradients(self, flat_P: FloatArray) -> None:
        """Add a flat gradient over all ranks in place, in an order that depends on nothing else."""

    @abstractmethod
    def broadcast(self, flat: FloatArray) -> None:
        """Overwrite ``flat`` by rank 0's."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank is here."""
