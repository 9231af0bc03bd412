"""Ranks that are threads: they keep the contract, and what would hang under MPI is an error."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from thread_ranks import Aborted, RanksError, run_ranks


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_arrays_go_where_they_are_sent(size):
    def work(comm):
        sent = [np.full(3 * comm.rank + q, 10 * comm.rank + q, np.int32) for q in range(size)]
        received = [np.empty(3 * q + comm.rank, np.int32) for q in range(size)]
        comm.exchange(sent, received)
        for array in sent:
            array[:] = -1
        return [array.tolist() for array in received]

    found = run_ranks(size, work)
    assert found == [[[10 * q + r] * (3 * q + r) for q in range(size)] for r in range(size)]


def test_every_rank_sees_the_bytes_of_all_and_rank_0s_array():
    def work(comm):
        flat = np.full(4, float(comm.rank))
        comm.broadcast(flat)
        comm.barrier()
        own = np.full(2, comm.rank, np.uint8)
        shared = [np.empty(2, np.uint8) for _ in range(3)]
        comm.share(own, shared)
        return comm.all_gather(b"x" * comm.rank), flat.tolist(), np.concatenate(shared).tolist()

    assert run_ranks(3, work) == [([b"", b"x", b"xx"], [0.0] * 4, [0, 0, 1, 1, 2, 2])] * 3


def test_channels_do_not_mix_even_in_threads_of_their_own():
    def work(comm):
        other = comm.channel()
        found = []
        thread = threading.Thread(
            target=lambda: found.extend(
                other.all_gather(b"b%d" % n)[1 - comm.rank] for n in range(9)
            )
        )
        thread.start()
        own = [comm.all_gather(b"a%d" % n)[1 - comm.rank] for n in range(9)]
        thread.join()
        return own, found

    expected = [b"a%d" % n for n in range(9)], [b"b%d" % n for n in range(9)]
    assert run_ranks(2, work) == [expected] * 2


def test_the_first_error_is_the_one_that_is_raised():
    def work(comm):
        if comm.rank == 1:
            raise ZeroDivisionError("rank 1 fails")
        comm.barrier()

    with pytest.raises(ZeroDivisionError, match="rank 1 fails"):
        run_ranks(3, work)


def test_an_abort_ends_all():
    def work(comm):
        if comm.rank == 2:
            comm.abort(7)
        comm.barrier()

    with pytest.raises(Aborted) as caught:
        run_ranks(3, work)
    assert caught.value.code == 7


def test_a_rank_that_returns_too_early_is_named():
    with pytest.raises(RanksError, match="rank 1 waits in barrier in vain: rank 0 has returned"):
        run_ranks(2, lambda comm: comm.barrier() if comm.rank else None)


def test_a_rank_that_is_awaited_for_too_long_is_named():
    gone = threading.Event()

    def work(comm):
        if comm.rank == 1:
            gone.wait(60)
        try:
            comm.barrier()
        finally:
            gone.set()

    with pytest.raises(RanksError, match=r"waits in barrier in vain: rank 1 has not come for 1 s"):
        run_ranks(3, work, timeout=1.0)


def test_calls_that_differ_are_an_error():
    def work(comm):
        return comm.barrier() if comm.rank else comm.all_gather(b"")

    with pytest.raises(RanksError, match="different calls meet: rank 0 all_gather, rank 1 barrier"):
        run_ranks(2, work)


@pytest.mark.parametrize(
    ("awaited", "said"),
    [
        (np.empty(4, np.float32), r"float32\[3\] is sent and float32\[4\] awaited"),
        (np.empty(3, np.int32), r"float32\[3\] is sent and int32\[3\] awaited"),
        (np.empty((3, 1), np.float32), "contiguous arrays of one dimension"),
        (np.empty(6, np.float32)[::2], "contiguous arrays of one dimension"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error(awaited, said):
    def work(comm):
        sent = [np.ones(3, np.float32) for _ in range(2)]
        comm.exchange(sent, [awaited, awaited])

    with pytest.raises(RanksError, match=said):
        run_ranks(2, work)


def test_arrays_that_overlap_are_an_error():
    def work(comm):
        array = np.ones(4, np.float32)
        comm.exchange([array[:2]], [array[1:3]])

    with pytest.raises(RanksError, match="overlap"):
        run_ranks(1, work)


def test_it_counts_calls_and_what_goes_to_others():
    def work(comm):
        comm.share(np.ones(5, np.float32), [np.empty(5, np.float32) for _ in range(3)])
        comm.barrier()
        return comm.calls, comm.elements

    assert run_ranks(3, work) == [(["exchange", "barrier"], 10)] * 3
