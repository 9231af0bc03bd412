"""Ranks as threads of one process: the quickest way to test what several ranks do together.

``run_ranks(3, work)`` calls ``work(communicator)`` in three threads, whose communicators keep the
contract, and returns the three results. What would hang or corrupt memory under MPI is an error
here: calls that differ between ranks, a rank that does not come, arrays that do not fit each other
or overlap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np

from tisslm.contracts import Communicator

__all__ = ["Aborted", "RanksError", "ThreadCommunicator", "run_ranks"]

T = TypeVar("T")


class RanksError(Exception):
    """Ranks that do not keep to the rules of the contract, or one that waits in vain."""


class Aborted(BaseException):
    """A rank has called ``abort``; ``code`` says with what."""

    def __init__(self, code: int) -> None:
        super().__init__(f"aborted with code {code}")
        self.code = code


class _InVain(RanksError):
    """A rank has waited for one that does not come; what kept that one is the error to be told."""


class _World:
    """What the ranks share: which of them have ended, and a condition that wakes those who wait."""

    def __init__(self, size: int, timeout: float) -> None:
        self.size = size
        self.timeout = timeout
        self.changed = threading.Condition()
        self.ended: dict[int, str] = {}

    def end(self, rank: int, how: str) -> None:
        """Wake every rank that waits, for this one will not come."""
        with self.changed:
            self.ended[rank] = how
            self.changed.notify_all()


class _Meeting:
    """Where the ranks of a channel meet: each brings something, and sees what all have brought."""

    def __init__(self, world: _World) -> None:
        self._world = world
        self._brought: list[Any] = [None] * world.size
        self._calls = [""] * world.size
        self._here: set[int] = set()
        self._n_meetings = 0

    def come(self, rank: int, call: str, thing: Any) -> list[Any]:
        """Bring a thing, and return those of all ranks once they are here."""
        self._brought[rank], self._calls[rank] = thing, call
        self.wait(rank, call)
        if len(set(self._calls)) > 1:
            differing = ", ".join(f"rank {q} {what}" for q, what in enumerate(self._calls))
            raise RanksError(f"different calls meet: {differing}")
        return list(self._brought)

    def wait(self, rank: int, call: str) -> None:
        """Wait for all ranks."""
        world = self._world
        with world.changed:
            if rank in self._here:
                raise RanksError(f"rank {rank}: {call} by two threads at once, on one channel")
            mine = self._n_meetings
            self._here.add(rank)
            if len(self._here) == world.size:
                self._here.clear()
                self._n_meetings += 1
                world.changed.notify_all()
            world.changed.wait_for(lambda: self._n_meetings != mine or world.ended, world.timeout)
            if self._n_meetings == mine:
                missing = sorted(set(range(world.size)) - self._here)
                why = ", ".join(
                    f"rank {q} {world.ended.get(q, f'has not come for {world.timeout:g} s')}"
                    for q in missing
                    if q in world.ended or not world.ended
                )
                raise _InVain(f"rank {rank} waits in {call} in vain: {why}")


class ThreadCommunicator(Communicator):
    """One of several ranks that are threads; made by :func:`run_ranks`.

    Attributes
    ----------
    calls : list of str
        Names of this rank's calls, in order.
    elements : int
        How many elements of arrays it has sent to others.
    """

    def __init__(self, world: _World, meeting: _Meeting, rank: int) -> None:
        self._world = world
        self._meeting = meeting
        self._rank = rank
        self.calls: list[str] = []
        self.elements = 0

    @property
    def rank(self) -> int:
        """Number of this thread."""
        return self._rank

    @property
    def size(self) -> int:
        """Number of threads."""
        return self._world.size

    def all_gather(self, data: bytes) -> list[bytes]:
        """Return what all ranks have brought."""
        if not isinstance(data, bytes):
            raise RanksError(f"rank {self.rank}: all_gather takes bytes, not {type(data).__name__}")
        return self._call("all_gather", data)

    def broadcast(self, flat: np.ndarray) -> None:
        """Copy rank 0's array."""
        _check(self.rank, "broadcast", flat)
        first = self._call("broadcast", flat.copy() if self.rank == 0 else flat)[0]
        if self.rank:
            _copy(first, flat, f"broadcast to rank {self.rank}")

    def exchange(self, sent: Sequence[np.ndarray], received: Sequence[np.ndarray]) -> None:
        """Copy what each rank has for this one."""
        if not len(sent) == len(received) == self.size:
            raise RanksError(
                f"rank {self.rank}: exchange among {self.size} ranks of {len(sent)} arrays for "
                f"{len(received)}"
            )
        for array in (*sent, *received):
            _check(self.rank, "exchange", array)
        if any(np.shares_memory(a, b) for a in sent for b in received):
            raise RanksError(f"rank {self.rank}: exchange of arrays that overlap")
        self.elements += sum(len(array) for q, array in enumerate(sent) if q != self.rank)
        brought = self._call("exchange", list(sent))
        for q, array in enumerate(received):
            _copy(brought[q][self.rank], array, f"exchange from rank {q} to rank {self.rank}")
        self._meeting.wait(self.rank, "exchange")  # from here on, senders may change their arrays

    def barrier(self) -> None:
        """Wait for all threads."""
        self._call("barrier", None)

    def channel(self) -> ThreadCommunicator:
        """Return a communicator of the same threads that meet somewhere else."""
        own = _Meeting(self._world) if self.rank == 0 else None
        return ThreadCommunicator(self._world, self._call("channel", own)[0], self.rank)

    def abort(self, code: int) -> NoReturn:
        """End every rank, and :func:`run_ranks` by :class:`Aborted`."""
        raise Aborted(code)

    def _call(self, name: str, thing: Any) -> list[Any]:
        self.calls.append(name)
        found = self._meeting.come(self.rank, name, thing)
        self._meeting.wait(self.rank, name)  # nobody brings the next thing before all have seen
        return found


def _check(rank: int, call: str, array: np.ndarray) -> None:
    if array.ndim != 1 or not array.flags.c_contiguous:
        raise RanksError(
            f"rank {rank}: {call} takes contiguous arrays of one dimension, not {array.shape} with "
            f"strides {array.strides}"
        )


def _copy(source: np.ndarray, target: np.ndarray, where: str) -> None:
    if (source.shape, source.dtype) != (target.shape, target.dtype):
        raise RanksError(
            f"{where}: {source.dtype}{list(source.shape)} is sent and "
            f"{target.dtype}{list(target.shape)} awaited"
        )
    target[:] = source


def run_ranks(
    size: int, work: Callable[[ThreadCommunicator], T], *, timeout: float = 60.0
) -> list[T]:
    """Call a function in as many threads as there are ranks, and return what they return.

    Parameters
    ----------
    size : int
        Number of ranks.
    work : callable
        Gets the communicator of its rank.
    timeout : float
        For how many seconds a rank waits for the others before it is an error.

    Returns
    -------
    list
        In the order of ranks.

    Raises
    ------
    BaseException
        The first error of a rank; the ranks that wait for it then are ended.
    """
    world = _World(size, timeout)
    meeting = _Meeting(world)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadCommunicator(world, meeting, rank))
        except BaseException as error:
            errors.append(error)
            world.end(rank, f"has ended by {type(error).__name__}")
        else:
            world.end(rank, "has returned")

    threads = [
        threading.Thread(target=run, args=(rank,), name=f"rank {rank}", daemon=True)
        for rank in range(size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in (*(e for e in errors if not isinstance(e, _InVain)), *errors):
        raise error
    return results
