"""Sums of gradients on their way from the ranks that have them to those that update them.

A thread sends one bucket after another, while the pass goes on that computes those to come. It adds
by NumPy, on one core: the kernels' threads are at work, and a second pool beside them would cost
more than it saves. An addition has the same bits either way.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Communicator
from tisslm.memory import Arena
from tisslm.training.ranks.layout import Bucket
from tisslm.training.ranks.reduction import Exchanged
from tisslm.training.ranks.tree import Fold, Node

__all__ = ["Exchange", "Sums"]

Array = NDArray[Any]


class Sums(NamedTuple):
    """What a rank has to send in an update, and what all have.

    Attributes
    ----------
    whole : list of ndarray of shape (P,)
        Its sums but the last, in the order of leaves.
    last : ndarray of shape (P,) or None
        The gradient of its last leaf; None without a leaf.
    added : list of ndarray of shape (P,)
        What is still to be added to ``last``, one after the other.
    nodes : list of list of Node
        What every rank has, by rank.
    """

    whole: list[Array]
    last: Array | None
    added: list[Array]
    nodes: list[list[Node]]


@final
class Exchange:
    """Sends buckets to those who own their ranges, and adds up what all ranks send here.

    Parameters
    ----------
    channel : Communicator
        Nothing else may be sent through it between ``start`` and ``wait``.
    buckets : sequence of Bucket
        In the order in which they are sent.
    pieces : mapping of int to ndarray
        Where the sum of each range of this rank is left, by the range's start.
    dtype : dtype
    note : callable
        Is told of each bucket.
    """

    def __init__(
        self,
        channel: Communicator,
        buckets: Sequence[Bucket],
        pieces: Mapping[int, Array],
        dtype: np.dtype[Any],
        note: Callable[[Exchanged], None],
    ) -> None:
        self._channel = channel
        self._note = note
        self._buckets = buckets
        self._pieces = pieces
        self._received = _Received(buckets, channel.rank, channel.size, dtype)
        self._ready: queue.SimpleQueue[Bucket] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, sums: Sums, behind: Callable[[], None]) -> None:
        """Begin with an update; each bucket waits until it is ready.

        Parameters
        ----------
        sums : Sums
        behind : callable
            Returns when the channel is free.
        """
        self._thread = threading.Thread(
            target=self._work, args=(sums, behind), name="tisslm-exchange", daemon=True
        )
        self._thread.start()

    def send(self, bucket: Bucket) -> None:
        """Let the next bucket be sent: its gradients will not change any more."""
        self._ready.put(bucket)

    def wait(self) -> None:
        """Return when all buckets of the update were exchanged; raise what kept the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self, sums: Sums, behind: Callable[[], None]) -> None:
        try:
            behind()
            for _ in self._buckets:
                bucket = self._ready.get()
                start = perf_counter_ns()
                self._exchange(bucket, sums)
                self._note(Exchanged("gradients", start, perf_counter_ns()))
        except BaseException as error:  # it belongs to the thread that waits
            self._error = error

    def _exchange(self, bucket: Bucket, sums: Sums) -> None:
        """Leave the sum of this rank's range of a bucket where it belongs."""
        own = [whole[bucket.start : bucket.stop] for whole in sums.whole]
        if sums.last is not None:
            last = sums.last[bucket.start : bucket.stop]
            for left in sums.added:
                np.add(last, left[bucket.start : bucket.stop], out=last)
            own.append(last)
        rounds = max(len(found) for found in sums.nodes)
        received = [
            self._received.arrays(bucket, number, [number < len(found) for found in sums.nodes])
            for number in range(rounds)
        ]
        for number in range(rounds):
            nothing = self._received.nothing
            sent = [
                own[number][start - bucket.start : stop - bucket.start]
                if number < len(own)
                else nothing
                for start, stop in bucket.ranges
            ]
            self._channel.exchange(sent, received[number])
        start, stop = bucket.ranges[self._channel.rank]
        if start < stop:
            fold: Fold[Array] = Fold(_add)
            for rank, found in enumerate(sums.nodes):
                for number, node in enumerate(found):
                    fold.put(node, received[number][rank])
            self._pieces[start][...] = fold.total()


class _Received:
    """Arrays for what all ranks send of one bucket, used for every bucket."""

    def __init__(self, buckets: Sequence[Bucket], rank: int, size: int, dtype: Any) -> None:
        self._rank = rank
        self._length = max((b.ranges[rank][1] - b.ranges[rank][0] for b in buckets), default=0)
        self._size = size
        self._rounds: list[Array] = []
        self.nothing = np.empty(0, dtype)

    def arrays(self, bucket: Bucket, number: int, sends: list[bool]) -> list[Array]:
        """Return one for each rank: empty where a rank has nothing to send this time."""
        dtype = self.nothing.dtype
        while len(self._rounds) <= number:
            nbytes = self._size * self._length * dtype.itemsize
            self._rounds.append(Arena(nbytes).take((self._size, self._length), dtype))
        start, stop = bucket.ranges[self._rank]
        return [
            self._rounds[number][rank, : stop - start if some else 0]
            for rank, some in enumerate(sends)
        ]


def _add(left: Array, right: Array) -> Array:
    np.add(left, right, out=left)
    return left
