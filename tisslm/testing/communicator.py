"""Conformance checks of communicators, by the contract ``tisslm.contracts.Communicator``.

Every rank of the run calls the check at the same place, one rank where there is one process. A rank
may see what it gets, not what others do: what one finds wrong, it alone reports.

What does not live here: starting processes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Communicator
from tisslm.testing.checks import Checks, Report, keeps_final_methods
from tisslm.testing.examples import option_sets

__all__ = ["check_communicator"]

Array = NDArray[Any]

#: Types of arrays that a run sends: gradients and weights, stored halves as their bits, bytes.
TYPES = ("float32", "float64", "int32", "uint16", "uint8")

#: What stands around an array that is received, and must stay.
GUARD = 5


def check_communicator(
    cls: type[Communicator], *, options: Mapping[str, Any] | None = None, name: str = ""
) -> Report:
    """Check that a communicator class keeps its contract, on as many ranks as call this.

    Parameters
    ----------
    cls : type
    options : mapping, optional
        Options to build it with. By default ``cls.test_options``, or its own defaults.
    name : str, optional
        Its name in messages.

    Returns
    -------
    Report

    Raises
    ------
    ConformanceError
        At the first assertion that fails.
    """
    checks = Checks(name or f"communicator {cls.__name__}", Communicator)
    checks.run(keeps_final_methods, cls)
    for chosen in option_sets(cls, options):
        comm = cls(**chosen)
        for prop in PROPERTIES:
            checks.run(prop, comm, options=chosen)
    return checks.report()


def has_a_rank_among_its_ranks(checks: Checks, comm: Communicator) -> None:
    """Check that ``0 <= rank < size``, the same at every call, and that each rank has its own."""
    got = (comm.rank, comm.size)
    checks.that(all(int(n) == n for n in got), "integers", got)
    checks.that(0 <= comm.rank < comm.size, "0 <= rank < size", got)
    comm.barrier()
    checks.same((comm.rank, comm.size), got, "rank and size after a barrier")
    told = comm.all_gather(b"%d of %d" % got)
    checks.same(told, [b"%d of %d" % (q, comm.size) for q in range(comm.size)], "ranks and sizes")


def bytes_come_in_the_order_of_ranks(checks: Checks, comm: Communicator) -> None:
    """Check that each rank gets the bytes of all, of lengths that differ, and none."""
    for first, more in ((0, 0), (0, 1), (1, 0), (7, 300), (100_000, 99)):
        given = [bytes([65 + q % 26]) * (first + more * q) for q in range(comm.size)]
        found = comm.all_gather(given[comm.rank])
        checks.that(all(type(data) is bytes for data in found), "a list of bytes", f"{found!r:.60}")
        checks.same(list(found), given, f"bytes of {first} + {more} * rank")


def broadcast_gives_rank_0s_values(checks: Checks, comm: Communicator) -> None:
    """Check that every rank ends with what rank 0 had, and nothing beyond is written."""
    for dtype in TYPES:
        for length in (0, 1, 1000):
            expected = _guarded(_values(dtype, length, 0, 0))
            flat = expected.copy()
            flat[GUARD : GUARD + length] = _values(dtype, length, comm.rank, 0)
            comm.broadcast(flat[GUARD : GUARD + length])
            checks.same(flat, expected, f"{length} {dtype} after broadcast")


def exchanged_arrays_arrive_whole(checks: Checks, comm: Communicator) -> None:
    """Check that each array comes where it is sent, of any length, and no other is touched."""
    for dtype in TYPES:
        for length in (0, 1, 1000):
            sent = [
                _values(dtype, _length(length, comm.rank, q), comm.rank, q)
                for q in range(comm.size)
            ]
            given = [array.copy() for array in sent]
            expected = [
                _guarded(_values(dtype, _length(length, q, comm.rank), q, comm.rank))
                for q in range(comm.size)
            ]
            received = [_unwritten(array) for array in expected]
            comm.exchange(sent, [array[GUARD:-GUARD] for array in received])
            for array in sent:  # a sender may change its own once the call has returned
                array[:] = 0
            for q in range(comm.size):
                checks.same(received[q], expected[q], f"{dtype} from rank {q}")
            comm.exchange(given, [array[GUARD:-GUARD] for array in received])
            for q in range(comm.size):
                again = _values(dtype, _length(length, comm.rank, q), comm.rank, q)
                checks.same(given[q], again, f"{dtype} that was sent to rank {q}")


def a_shared_array_arrives_whole(checks: Checks, comm: Communicator) -> None:
    """Check that each rank gets the one array of all, of lengths that differ."""
    for dtype in TYPES:
        for length in (0, 1, 1000):
            own = _values(dtype, _length(length, comm.rank, 0), comm.rank, 0)
            expected = [
                _guarded(_values(dtype, _length(length, q, 0), q, 0)) for q in range(comm.size)
            ]
            received = [_unwritten(array) for array in expected]
            comm.share(own, [array[GUARD:-GUARD] for array in received])
            for q in range(comm.size):
                checks.same(received[q], expected[q], f"{dtype} that rank {q} shares")
            again = _values(dtype, _length(length, comm.rank, 0), comm.rank, 0)
            checks.same(own, again, f"{dtype} that was shared")


def large_arrays_arrive_whole(checks: Checks, comm: Communicator) -> None:
    """Check an array of some megabytes, which no library sends in one piece, twice in a row."""
    length = (1 << 20) + 3
    for turn in (1, 2):
        sent = [_values("float32", length, comm.rank, q + turn) for q in range(comm.size)]
        received = [np.zeros(length, np.float32) for _ in range(comm.size)]
        comm.exchange(sent, received)
        for q in range(comm.size):
            expected = _values("float32", length, q, comm.rank + turn)
            checks.same(received[q], expected, f"large array from rank {q}")
        flat = _values("float32", length, comm.rank, turn)
        comm.broadcast(flat)
        checks.same(flat, _values("float32", length, 0, turn), "large array after broadcast")


def a_barrier_waits_for_every_rank(checks: Checks, comm: Communicator) -> None:
    """Check that nobody leaves a barrier before the last rank has come, which comes late."""
    channel = comm.channel()
    last = comm.size - 1
    come = threading.Event()
    told: list[bytes] = []

    def tell() -> None:
        channel.all_gather(b"")  # once the others have left the barrier
        told.extend(channel.all_gather(b"come" if come.is_set() else b"not yet"))

    if comm.size == 1:  # nobody to wait for
        comm.barrier()
        told.append(b"come")
    elif comm.rank == last:
        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        time.sleep(0.1)
        come.set()
        comm.barrier()
        teller.join()
    else:
        comm.barrier()
        tell()
    checks.same(told[-1:], [b"come"], "the last rank")


def channels_do_not_mix(checks: Checks, comm: Communicator) -> None:
    """Check that a thread with a channel of its own gets what was sent through that channel."""
    channel = comm.channel()
    checks.that(channel is not comm, "another communicator", "the same one")
    checks.same((channel.rank, channel.size), (comm.rank, comm.size), "rank and size of a channel")
    found: list[list[bytes]] = []
    errors: list[Exception] = []

    def gather() -> None:
        try:
            found.extend(channel.all_gather(b"channel %d" % n) for n in range(20))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=gather, daemon=True)
    thread.start()
    own = [comm.all_gather(b"itself %d" % n) for n in range(20)]
    thread.join()
    if errors:
        raise errors[0]
    for n in range(20):
        checks.same(own[n], [b"itself %d" % n] * comm.size, "bytes beside a channel")
        checks.same(found[n], [b"channel %d" % n] * comm.size, "bytes through a channel")


def _length(length: int, source: int, target: int) -> int:
    """Return a length that no other pair of a few ranks has; some are 0."""
    return length * ((3 * source + target) % 7)


def _values(dtype: str, length: int, source: int, target: int) -> Array:
    """Return numbers that no other pair of a few ranks has."""
    return (np.arange(length) % 97 + 50 * source + 13 * target + 1).astype(dtype)


def _guarded(array: Array) -> Array:
    """Return the array with something around it."""
    return np.pad(array, GUARD, constant_values=77)


def _unwritten(guarded: Array) -> Array:
    """Return a copy in which nothing has arrived yet."""
    array = guarded.copy()
    array[GUARD:-GUARD] = 99
    return array


PROPERTIES: tuple[Callable[[Checks, Communicator], None], ...] = (
    has_a_rank_among_its_ranks,
    bytes_come_in_the_order_of_ranks,
    broadcast_gives_rank_0s_values,
    exchanged_arrays_arrive_whole,
    a_shared_array_arrives_whole,
    large_arrays_arrive_whole,
    channels_do_not_mix,
    a_barrier_waits_for_every_rank,
)
