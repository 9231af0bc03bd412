"""The communicator ``local``: one process, alone.

What does not live here: anything that is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from tisslm.contracts import Communicator
from tisslm.contracts.batch import FloatArray

__all__ = ["LocalCommunicator"]


@final
class LocalCommunicator(Communicator):
    """The only process of a run: each sum over the ranks is its one term, bit for bit."""

    @property
    def rank(self) -> int:
        """0."""
        return 0

    @property
    def size(self) -> int:
        """1."""
        return 1

    def sum_scalars(self, values: Sequence[float]) -> list[float]:
        """Return the values."""
        return list(values)

    def sum_gradients(self, flat_P: FloatArray) -> None:
        """Leave the gradient as it is."""

    def broadcast(self, flat: FloatArray) -> None:
        """Leave the array as it is."""

    def barrier(self) -> None:
        """Return at once."""
