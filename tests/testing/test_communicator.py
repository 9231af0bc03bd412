"""The check of communicators: right ones pass, and each wrong one fails by its own property."""

from __future__ import annotations

import threading

import pytest
from thread_ranks import ThreadCommunicator, run_ranks

from tisslm.testing import check_communicator
from tisslm.training.ranks.communicators.local import LocalCommunicator

HERE = threading.local()


class Ranked(ThreadCommunicator):
    """A rank that is built by its class alone, as checks build it: the thread knows which it is."""

    def __init__(self):
        mine = HERE.communicator
        super().__init__(mine._world, mine._meeting, mine.rank)


class CountsFromOne(Ranked):
    @property
    def rank(self):
        return super().rank + 1


class AllAreFirst(Ranked):
    def all_gather(self, data):
        return [super().all_gather(data)[0]] * self.size


class GathersBackwards(Ranked):
    def all_gather(self, data):
        found = super().all_gather(data)
        return found if data[1:4] == b" of" else found[::-1]


class CutsBytes(Ranked):
    def all_gather(self, data):
        return super().all_gather(data[:50_000])


class BroadcastsNothing(Ranked):
    def broadcast(self, flat):
        super().broadcast(flat.copy())


class BroadcastsBeyond(Ranked):
    def broadcast(self, flat):
        super().broadcast(flat)
        if flat.base is not None:
            flat.base[-1] = 0


class MixesUpRanks(Ranked):
    def exchange(self, sent, received):
        copies = [array.copy() for array in received]
        super().exchange(sent, copies)
        for target, array in zip(received, reversed(copies), strict=True):
            target[: len(array)] = array[: len(target)]


class ExchangesByReference(Ranked):
    """Takes what the senders have a while later."""

    def exchange(self, sent, received):
        if len(sent[0]) == 1 << 20:
            return super().exchange(sent, received)
        self._call("exchange", None)
        seen = self._call("exchange", list(sent))
        self.barrier()
        threading.Event().wait(0.02)
        for q, array in enumerate(received):
            array[:] = seen[q][self.rank]
        return None


class SpoilsWhatIsSent(Ranked):
    def exchange(self, sent, received):
        super().exchange(sent, received)
        for array in sent:
            array[:] = 3


class SharesOneArray(Ranked):
    def share(self, own, received):
        super().share(own, received)
        received[-1][:] = 3


class LosesTheEndOfLargeArrays(Ranked):
    def exchange(self, sent, received):
        super().exchange(sent, received)
        for array in received:
            array[1 << 20 :] = 0


class DoesNotWait(Ranked):
    def barrier(self):
        pass


class HasOneChannel(Ranked):
    def channel(self):
        return self


class PretendsChannels(Ranked):
    def channel(self):
        return ThreadCommunicator(self._world, self._meeting, self.rank)


class NeedsMpi(Ranked):
    def barrier(self):
        raise RuntimeError("no MPI")


WRONG = [
    (CountsFromOne, "has a rank among its ranks"),
    (AllAreFirst, "has a rank among its ranks"),
    (NeedsMpi, "has a rank among its ranks"),
    (GathersBackwards, "bytes come in the order of ranks"),
    (CutsBytes, "bytes come in the order of ranks"),
    (BroadcastsNothing, "broadcast gives rank 0s values"),
    (BroadcastsBeyond, "broadcast gives rank 0s values"),
    (MixesUpRanks, "exchanged arrays arrive whole"),
    (ExchangesByReference, "exchanged arrays arrive whole"),
    (SpoilsWhatIsSent, "exchanged arrays arrive whole"),
    (SharesOneArray, "a shared array arrives whole"),
    (LosesTheEndOfLargeArrays, "large arrays arrive whole"),
    (DoesNotWait, "a barrier waits for every rank"),
    (HasOneChannel, "channels do not mix"),
    (PretendsChannels, "channels do not mix"),
]


def checked(cls, size):
    def work(communicator):
        HERE.communicator = communicator
        return check_communicator(cls)

    return run_ranks(size, work)


def test_the_built_in_communicator_passes():
    assert check_communicator(LocalCommunicator).n_assertions > 100


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_right_ranks_pass(size):
    assert all(report.n_assertions > 100 for report in checked(Ranked, size))


@pytest.mark.parametrize(("wrong", "prop"), WRONG, ids=[w.__name__ for w, _ in WRONG])
def test_a_wrong_communicator_fails_by_its_property(refuses, wrong, prop):
    refuses(checked, wrong, prop, size=3)
