"""The communicator ``mpi``: the processes that ``mpiexec`` or ``srun`` has started."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, NoReturn, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Communicator
from tisslm.contracts.options import number
from tisslm_mpi.transfers import Transfers, parts
from tisslm_mpi.world import enter

__all__ = ["MPICommunicator"]

FloatArray = NDArray[Any]

#: Bytes of the first message of ``all_gather``: the length, and what has room beside it.
_FIRST = 256


@final
class MPICommunicator(Communicator):
    """The processes of an MPI job, by mpi4py, over any library that it finds.

    Its messages have contexts of their own, so a program may use MPI beside it. With more than one
    rank, an error or end of one rank ends them all, and a watch ends them if nothing goes on.

    Parameters
    ----------
    stall_timeout : float, default 300
        Seconds after which ranks that wait in vain are ended, with the stacks of all that live;
        0 for never.

    Raises
    ------
    ConfigError
        If there is no MPI that can serve.
    """

    def __init__(self, *, stall_timeout: float = 300.0) -> None:
        timeout = number("communicator mpi: stall_timeout", stall_timeout, 0)
        self._world = enter(timeout)
        self._mpi = self._world.mpi
        self._comm = self._duplicate(self._mpi.COMM_WORLD)
        self._world.start(self.all_gather)

    @property
    def rank(self) -> int:
        """Number of this process in MPI's world."""
        return int(self._comm.rank)

    @property
    def size(self) -> int:
        """Number of processes in MPI's world."""
        return int(self._comm.size)

    def all_gather(self, data: bytes) -> list[bytes]:
        """Return the bytes of all: short ones by one message a rank, long ones by two."""
        room = _FIRST - 8
        first = np.zeros(_FIRST, np.uint8)
        first[:8] = np.frombuffer(len(data).to_bytes(8, "little"), np.uint8)
        own = np.frombuffer(data, np.uint8)
        first[8 : 8 + min(len(data), room)] = own[:room]
        firsts = np.empty((self.size, _FIRST), np.uint8)
        self._exchange("all_gather", [first] * self.size, list(firsts))
        lengths = [int.from_bytes(row[:8].tobytes(), "little") for row in firsts]
        if max(lengths) <= room:
            pairs = zip(firsts, lengths, strict=True)
            return [row[8 : 8 + length].tobytes() for row, length in pairs]
        found = [bytearray(length) for length in lengths]
        wholes = [np.frombuffer(buffer, np.uint8) for buffer in found]
        for whole, row in zip(wholes, firsts, strict=True):
            whole[:room] = row[8 : 8 + len(whole)]
        rests = [whole[room:] for whole in wholes]
        self._exchange("all_gather", [own[room:]] * self.size, rests)
        return [bytes(buffer) for buffer in found]

    def broadcast(self, flat: FloatArray) -> None:
        """Send rank 0's array, as the library does."""
        for part in parts(flat):
            transfers = Transfers(self._mpi, self._world.watch, "broadcast")
            transfers.add(self._comm.Ibcast([part, self._mpi.BYTE], root=0), (0,))
            transfers.finish()

    def exchange(self, sent: Sequence[FloatArray], received: Sequence[FloatArray]) -> None:
        """Send and receive straight from and into the arrays, all at once."""
        self._exchange("exchange", sent, received)

    def barrier(self) -> None:
        """Exchange a byte."""
        one = np.zeros(1, np.uint8)
        self._exchange("barrier", [one] * self.size, list(np.empty((self.size, 1), np.uint8)))

    def channel(self) -> MPICommunicator:
        """Return a communicator whose messages have another context."""
        other = copy(self)
        other._comm = self._duplicate(self._comm)
        return other

    def beat(self, what: str) -> None:
        """Let the watch know."""
        self._world.watch.beat(what)

    def abort(self, code: int) -> NoReturn:
        """End all ranks through MPI."""
        self._world.abort(code)

    def _exchange(
        self, call: str, sent: Sequence[FloatArray], received: Sequence[FloatArray]
    ) -> None:
        byte, rank, comm = self._mpi.BYTE, self.rank, self._comm
        transfers = Transfers(self._mpi, self._world.watch, call)
        others = [(rank + step) % self.size for step in range(1, self.size)]
        for q in others:
            for part in parts(received[q]):
                transfers.add(comm.Irecv([part, byte], source=q), (q,), len(part))
        for q in others:  # each rank begins with its right neighbour, not all with rank 0
            for part in parts(sent[q]):
                transfers.add(comm.Isend([part, byte], dest=q), (q,))
        received[rank][:] = sent[rank]
        transfers.finish()

    def _duplicate(self, comm: Any) -> Any:
        found, request = comm.Idup()
        transfers = Transfers(self._mpi, self._world.watch, "channel")
        transfers.add(request, range(comm.size))
        transfers.finish()
        return found
