"""How several ranks make one update: each adds what it can, and updates its own ranges."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

from numpy.typing import NDArray

from tisslm.contracts import Communicator, Network
from tisslm.memory import Parameters
from tisslm.memory.shards import ParameterShard
from tisslm.training.ranks.announcing import Announcer
from tisslm.training.ranks.exchange import Exchange, Sums
from tisslm.training.ranks.layout import Bucket, buckets_of, ranges_of
from tisslm.training.ranks.norms import SharedNorm
from tisslm.training.ranks.reduction import Exchanged, Reduction, SoleReduction
from tisslm.training.ranks.returning import Parcel, Returning
from tisslm.training.ranks.share import Share
from tisslm.training.ranks.states import GatheredArrays, WholeArrays, own_part
from tisslm.training.ranks.tree import Node, nodes_of

__all__ = ["SharedReduction", "make_reduction"]

Array = NDArray[Any]


@final
class SharedReduction(Reduction):
    """Several ranks have leaves, and each updates its own ranges of the flat parameters.

    Each rank adds up what it has both halves of. Bucket by bucket, every owner of a range is sent
    that range of all ranks' sums, and adds them in the order of leaves. Buckets go out while the
    last backward pass of the update is still at those to come, and come back updated while the
    next forward pass is.

    Parameters
    ----------
    model : Network
    share : Share
    communicator : Communicator
    shaped : bool
        Whether ranges are cut between parameters, for an optimizer that needs whole ones.
    """

    def __init__(
        self, model: Network, share: Share, communicator: Communicator, *, shaped: bool = False
    ) -> None:
        parameters = model.parameters
        super().__init__(parameters, share)
        self.communicator = communicator
        self._model = model
        self.buckets = buckets_of(parameters, communicator.size, shaped=shaped)
        self.shard = _NormedShard(parameters, self.buckets, communicator, shaped=shaped)
        pieces = {piece[0]: grad for piece, grad in self.shard.pieces(self.shard.grad)}
        channel = communicator.channel()
        self._track: deque[Exchanged] = deque(maxlen=4 * len(self.buckets))
        note = self._track.append
        self._exchange = Exchange(channel, self.buckets, pieces, parameters.dtype, note)
        parcels = self._parcels(self.shard.data, parameters.data_arena)
        self._returning = Returning(channel, parameters, parcels, note)
        self._nodes: list[list[Node]] = []
        self._is_started = False
        self._is_overlapped = False

    @property
    def updated(self) -> ParameterShard:
        """The ranges of this rank."""
        return self.shard

    def take_exchanged(self) -> Sequence[Exchanged]:
        """Return the latest buckets that nobody has been told of, in their order."""
        return [self._track.popleft() for _ in range(len(self._track))]

    @contextmanager
    def overlapped(self) -> Iterator[None]:
        """Let parameters come back late if the model asks for them in each pass."""
        self._is_overlapped = self._model.asks_for_values
        try:
            yield
        finally:
            self._is_overlapped = False
        self._returning.wait()

    def begin(self, present: int) -> None:
        """Find out what each rank will have to send."""
        super().begin(present)
        self._nodes = [
            nodes_of(leaf for leaf in self.share.leaves_of(rank) if leaf < present)
            for rank in range(self.communicator.size)
        ]

    @contextmanager
    def announced(self, leaf: int) -> Iterator[None]:
        """Send each bucket as soon as the pass is done with it."""
        whole, added = self._fold.split(Node(0, leaf))
        announcer = self._start(Sums(whole, self.parameters.grad_arena, added, self._nodes))
        with self._model.observed(announcer):
            yield
        announcer.end()

    def _start(self, sums: Sums) -> Announcer:
        self._is_started = True
        self._exchange.start(sums, self._returning.wait)
        return Announcer(self.parameters, self.buckets, self._exchange.send)

    def add_leaf(self, leaf: int, *, last: bool) -> None:
        """Add the leaf here, unless it is the last one, which is added bucket by bucket."""
        if not last:
            super().add_leaf(leaf, last=False)

    def finish(self) -> None:
        """Wait until all buckets are exchanged, and take the parameters as they are by now.

        A checkpoint, or whoever else, may have set them since the last update.
        """
        if not self._is_started:  # no leaf of this update is this rank's
            self._start(Sums([], None, [], self._nodes)).end()
        self._is_started = False
        self._exchange.wait()
        self.shard.read()

    def reread(self) -> None:
        """Copy the ranges of this rank, once they are back."""
        self.shard.read()

    def publish(self) -> None:
        """Send every rank's updated ranges to all."""
        self._returning.start()
        if not self._is_overlapped:
            self._returning.wait()

    def publish_gradient(self) -> None:
        """Send every rank's ranges of the gradient to all."""
        for _, own, received in self._parcels(self.shard.grad, self.parameters.grad):
            self.communicator.share(own, received)

    def whole_state(self, own: Mapping[str, Array], what: str = "") -> GatheredArrays:
        """Return arrays that rank 0 gathers one by one."""
        size = self.communicator.size
        ranges = [ranges_of(self.buckets, rank) for rank in range(size)]
        kept = WholeArrays if self.shard.shaped else GatheredArrays
        return kept(own, self.parameters, ranges, self.communicator, what)

    def own_part(self, name: str, array: Array) -> Array | None:
        """Return the elements that are in the ranges of this rank."""
        return own_part(self.shard, name, array)

    def _parcels(self, own_S: Array, whole_P: Array) -> list[Parcel]:
        """Return every bucket of an array, in the order in which a forward pass needs them."""
        pieces = {piece[0]: array for piece, array in self.shard.pieces(own_S)}
        rank = self.communicator.rank
        return [
            Parcel(
                bucket,
                pieces.get(bucket.ranges[rank][0], own_S[:0]),
                [whole_P[start:stop] for start, stop in bucket.ranges],
            )
            for bucket in reversed(self.buckets)
        ]


@final
class _NormedShard(ParameterShard):
    """A shard whose gradient is one of several that make up a whole."""

    def __init__(
        self,
        whole: Parameters,
        buckets: list[Bucket],
        communicator: Communicator,
        *,
        shaped: bool,
    ) -> None:
        super().__init__(whole, ranges_of(buckets, communicator.rank), shaped=shaped)
        of_ranks = [ranges_of(buckets, rank) for rank in range(communicator.size)]
        self._norm = SharedNorm(whole.grad_arena, of_ranks, communicator)

    def grad_norm(self) -> float:
        """Compute the Euclidean norm of the whole gradient, the same on all ranks."""
        return self._norm.compute(self.pieces(self.grad))


def make_reduction(
    model: Network, share: Share, communicator: Communicator, *, shaped: bool = False
) -> Reduction:
    """Return what adds up the leaves of a run.

    Parameters
    ----------
    model : Network
        Of whose passes it is told, where gradients go out meanwhile.
    share : Share
    communicator : Communicator
    shaped : bool
        Whether several ranks are to have whole parameters each.
    """
    if communicator.size == 1:
        return SoleReduction(model.parameters, share)
    return SharedReduction(model, share, communicator, shaped=shaped)
