"""Arrays as parts that MPI takes, and the wait for them, which leaves the core to others.

A blocking call of MPI polls without a pause: one core of each rank that waits would be burnt,
while threads that compute want it. Here a wait asks some times at once, for the sake of short
messages, and then sleeps between the questions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm_mpi.watch import Watch

__all__ = ["Transfers", "parts"]

Array = NDArray[Any]

#: Bytes of one message: below 2^31, the most that older libraries count.
PART = 1 << 30

#: Questions that are asked without a pause; some tens of microseconds.
_TRIES = 30

#: Seconds between later questions, the first and the last.
_PAUSES = (50e-6, 200e-6)

#: Every so many seconds, a wait finds out which ranks it is still for.
_LOOK = 0.25


_SAME = "Every rank makes the same calls in the same order, with arrays that fit each other"


def parts(array: Array) -> Iterator[NDArray[np.uint8]]:
    """Yield an array of one dimension as bytes, in order, at most ``PART`` at a time."""
    whole = array.view(np.uint8)
    for start in range(0, len(whole), PART):
        yield whole[start : start + PART]


class Transfers:
    """Messages of one call that are under way.

    Parameters
    ----------
    mpi : module
    watch : Watch
        Is told what is waited for.
    call : str
        Name of the call, for messages.
    """

    def __init__(self, mpi: Any, watch: Watch, call: str) -> None:
        self._mpi = mpi
        self._watch = watch
        self._call = call
        self._requests: list[Any] = []
        self._ranks: list[Sequence[int]] = []
        self._sizes: list[int | None] = []

    def add(self, request: Any, ranks: Sequence[int], size: int | None = None) -> None:
        """Add a request of MPI: the ranks it waits for, and the bytes if it receives from one."""
        self._requests.append(request)
        self._ranks.append(ranks)
        self._sizes.append(size)

    def finish(self) -> None:
        """Wait until all is done.

        Raises
        ------
        RuntimeError
            If a rank sent fewer bytes than were awaited.
        mpi4py.MPI.Exception
            If it sent more, or messages do not come through.
        """
        try:
            done = self._wait()
        except self._mpi.Exception as error:
            error.add_note(f"in {self._call}. {_SAME}")
            raise
        self._watch.count(self._call)
        self._check(done)

    def _wait(self) -> Sequence[Any]:
        done: list[Any] = []
        test = self._mpi.Request.Testall
        if not any(test(self._requests, done) for _ in range(_TRIES)):
            with self._watch.waiting(self._call) as wait:
                pause, most = _PAUSES
                look = time.monotonic() + _LOOK
                while not test(self._requests, done):
                    time.sleep(pause)
                    pause = min(pause * 1.2, most)
                    if time.monotonic() > look:
                        wait.ranks = self._missing()
                        look = time.monotonic() + _LOOK
        return done

    def _missing(self) -> Sequence[int]:
        pairs = zip(self._requests, self._ranks, strict=True)
        return sorted({q for request, ranks in pairs if not request.Get_status() for q in ranks})

    def _check(self, done: Sequence[Any]) -> None:
        for status, ranks, size in zip(done, self._ranks, self._sizes, strict=True):
            if size is not None and (got := status.Get_count(self._mpi.BYTE)) != size:
                raise RuntimeError(
                    f"{self._call}: expected {size} bytes from rank {ranks[0]}, got {got}. {_SAME}"
                )
