"""The communicator ``local``: one process, alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from tisslm.contracts import Communicator
from tisslm.contracts.batch import FloatArray

__all__ = ["LocalCommunicator"]


@final
class LocalCommunicator(Communicator):
    """The only process of a run: what it sends comes back to it."""

    @property
    def rank(self) -> int:
        """0."""
        return 0

    @property
    def size(self) -> int:
        """1."""
        return 1

    def all_gather(self, data: bytes) -> list[bytes]:
        """Return a list of the one value."""
        return [data]

    def broadcast(self, flat: FloatArray) -> None:
        """Leave the array as it is."""

    def exchange(self, sent: Sequence[FloatArray], received: Sequence[FloatArray]) -> None:
        """Copy the array."""
        received[0][:] = sent[0]

    def barrier(self) -> None:
        """Return at once."""

    def channel(self) -> LocalCommunicator:
        """Return another one."""
        return LocalCommunicator()
