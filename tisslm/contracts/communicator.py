"""Processes that train one model together, and what they tell each other."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NoReturn

from numpy.typing import NDArray

__all__ = ["Communicator"]

FloatArray = NDArray[Any]


class Communicator(ABC):
    """The processes of a run, its ranks, and the ways in which bytes get from one to another.

    A communicator adds nothing up. In which order numbers are added is the engine's affair, so
    that a run has the same bits with every communicator and any number of ranks.

    Every rank makes the same calls in the same order, from one thread at a time; each call
    returns when this rank's part of it is done. Arrays are contiguous and of one dimension.
    """

    @property
    @abstractmethod
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of processes."""

    @abstractmethod
    def all_gather(self, data: bytes) -> list[bytes]:
        """Give some bytes to all ranks, and return those of every rank, in the order of ranks.

        Parameters
        ----------
        data : bytes
            Of any length, which may differ from rank to rank.
        """

    @abstractmethod
    def broadcast(self, flat: FloatArray) -> None:
        """Overwrite ``flat``, which has one shape and type on all ranks, by rank 0's."""

    @abstractmethod
    def exchange(self, sent: Sequence[FloatArray], received: Sequence[FloatArray]) -> None:
        """Send an array to every rank, and receive one of every rank.

        Parameters
        ----------
        sent : sequence of ndarray
            Array q goes to rank q; an empty one is not sent. Array ``rank`` is copied to
            ``received[rank]``.
        received : sequence of ndarray
            Array q is overwritten by what rank q sends here, which has its length and type. May
            not overlap what is sent.
        """

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank is here."""

    @abstractmethod
    def channel(self) -> Communicator:
        """Return another communicator of these ranks, all of which ask for it at the same place.

        What goes through one is never taken for what goes through the other, so that a thread may
        have a channel of its own.
        """

    def share(self, own: FloatArray, received: Sequence[FloatArray]) -> None:
        """Send one array to every rank, and receive those of all: ``exchange`` of one for all.

        Parameters
        ----------
        own : ndarray
        received : sequence of ndarray
            As for ``exchange``.
        """
        self.exchange([own] * self.size, received)

    def beat(self, what: str) -> None:  # noqa: B027 (nobody need know)
        """Take notice that this rank goes on, though it calls nothing else here for a while.

        A communicator may end a run in which no rank does anything; the default does nothing.

        Parameters
        ----------
        what : str
            What it does, such as ``step 12``, for messages.
        """

    def abort(self, code: int) -> NoReturn:
        """End the processes of all ranks at once, as far as it is known how: the default, this one.

        Parameters
        ----------
        code : int
            What they exit with, not 0.
        """
        os._exit(code)
