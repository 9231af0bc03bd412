"""Small messages between the watches of ranks, which nobody waits for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["Post"]

#: Questions in a row that find nothing, before nothing is there: each takes in one packet at most.
_MISSES = 50


class Post:
    """Sends and receives bytes through a communicator of its own; of one thread.

    Parameters
    ----------
    mpi : module
    comm : mpi4py.MPI.Comm
    """

    def __init__(self, mpi: Any, comm: Any) -> None:
        self._mpi = mpi
        self._comm = comm
        self._under_way: list[tuple[Any, bytes]] = []
        self.rank = int(comm.rank)

    def send(self, rank: int, kind: int, data: bytes = b"") -> None:
        """Send a message of a kind, a number from 1."""
        request = self._comm.Isend([data, self._mpi.BYTE], dest=rank, tag=kind)
        self._under_way.append((request, data))

    def send_all(self, kind: int, data: bytes = b"") -> None:
        """Send a message to every other rank."""
        for rank in range(self._comm.size):
            if rank != self.rank:
                self.send(rank, kind, data)

    def is_sent(self) -> bool:
        """Tell whether all messages are out of this rank's hands."""
        self._under_way = [pair for pair in self._under_way if not pair[0].Test()]
        return not self._under_way

    def receive(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield what has come: from whom, of which kind, and the bytes."""
        self.is_sent()
        status = self._mpi.Status()
        misses = 0
        while misses < _MISSES:
            message = self._comm.Improbe(self._mpi.ANY_SOURCE, self._mpi.ANY_TAG, status)
            if message is None:
                misses += 1
                continue
            data = bytearray(status.Get_count(self._mpi.BYTE))
            message.Recv([data, self._mpi.BYTE])
            yield status.Get_source(), status.Get_tag(), bytes(data)
