"""How several ranks make one update: each adds what it can, and updates its own ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Communicator, Model
from tisslm.memory import Parameters
from tisslm.memory.shards import ParameterShard
from tisslm.training.ranks.announcing import Announcer
from tisslm.training.ranks.exchange import Exchange, Sums
from tisslm.training.ranks.layout import Bucket, buckets_of, ranges_of
from tisslm.training.ranks.reduction import Reduction, SoleReduction
from tisslm.training.ranks.share import Share
from tisslm.training.ranks.states import GatheredArrays, own_part
from tisslm.training.ranks.tree import Node, nodes_of

__all__ = ["SharedReduction", "make_reduction"]

Array = NDArray[Any]


@final
class SharedReduction(Reduction):
    """Several ranks have leaves, and each updates its own ranges of the flat parameters.

    Each rank adds up what it has both halves of. Bucket by bucket, every owner of a range is sent
    that range of all ranks' sums, and adds them in the order of leaves. Buckets go out while the
    last backward pass of the update is still at those to come.

    Parameters
    ----------
    model : Model
    share : Share
    communicator : Communicator
    """

    def __init__(self, model: Model, share: Share, communicator: Communicator) -> None:
        parameters = model.parameters
        super().__init__(parameters, share)
        self.communicator = communicator
        self._model = model
        self.buckets = buckets_of(parameters, communicator.size)
        self.shard = _NormedShard(parameters, self.buckets, communicator)
        pieces = {piece[0]: grad for piece, grad in self.shard.pieces(self.shard.grad)}
        self._exchange = Exchange(communicator, self.buckets, pieces, parameters.dtype)
        self._nodes: list[list[Node]] = []
        self._is_started = False

    @property
    def updated(self) -> ParameterShard:
        """The ranges of this rank."""
        return self.shard

    @property
    def exchanged(self) -> Sequence[tuple[int, int]]:
        """When the buckets of the last update were exchanged, in nanoseconds: start and end."""
        return self._exchange.times

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
        self.shard.read()  # whoever has set parameters meanwhile, a checkpoint's or others
        self._exchange.start(sums)
        return Announcer(self.parameters, self.buckets, self._exchange.send)

    def add_leaf(self, leaf: int, *, last: bool) -> None:
        """Add the leaf here, unless it is the last one, which is added bucket by bucket."""
        if not last:
            super().add_leaf(leaf, last=False)

    def finish(self) -> None:
        """Wait until all buckets are exchanged."""
        if not self._is_started:  # no leaf of this update is this rank's
            self._start(Sums([], None, [], self._nodes)).end()
        self._is_started = False
        self._exchange.wait()

    def publish(self) -> None:
        """Send every rank's updated ranges to all."""
        self._share(self.shard.data, self.parameters.data)

    def publish_gradient(self) -> None:
        """Send every rank's ranges of the gradient to all."""
        self._share(self.shard.grad, self.parameters.grad)

    def whole_state(self, own: Mapping[str, Array]) -> GatheredArrays:
        """Return arrays that rank 0 gathers one by one."""
        size = self.communicator.size
        ranges = [ranges_of(self.buckets, rank) for rank in range(size)]
        return GatheredArrays(own, self.parameters, ranges, self.communicator)

    def own_part(self, name: str, array: Array) -> Array | None:
        """Return the elements that are in the ranges of this rank."""
        return own_part(self.shard, name, array)

    def _share(self, own_S: Array, whole_P: Array) -> None:
        pieces = {piece[0]: array for piece, array in self.shard.pieces(own_S)}
        rank = self.communicator.rank
        for bucket in reversed(self.buckets):
            own = pieces.get(bucket.ranges[rank][0], own_S[:0])
            self.communicator.share(own, [whole_P[start:stop] for start, stop in bucket.ranges])


@final
class _NormedShard(ParameterShard):
    """A shard whose gradient is one of several that make up a whole."""

    def __init__(
        self, whole: Parameters, buckets: list[Bucket], communicator: Communicator
    ) -> None:
        super().__init__(whole, ranges_of(buckets, communicator.rank))
        self._communicator = communicator
        self._of_ranks = [ranges_of(buckets, rank) for rank in range(communicator.size)]
        self._parts_K = ops.norm_parts(whole.data)

    def grad_norm(self) -> float:
        """Compute the Euclidean norm of the whole gradient, the same on all ranks."""
        own = [ops.norm_parts(piece) for _, piece in self.pieces(self.grad)]
        for (_, piece), parts in zip(self.pieces(self.grad), own, strict=True):
            ops.squared_norm(piece, parts)
        sent = np.concatenate([np.zeros(0), *own])
        for ranges, found in zip(
            self._of_ranks, self._communicator.all_gather(sent.tobytes()), strict=True
        ):
            parts = np.frombuffer(found)
            for start, stop in ranges:
                first, blocks = start // ops.NORM_BLOCK, -(-(stop - start) // ops.NORM_BLOCK)
                self._parts_K[first : first + blocks], parts = parts[:blocks], parts[blocks:]
        return ops.norm_of_parts(self._parts_K) if self.whole.data.size else 0.0


def make_reduction(model: Model, share: Share, communicator: Communicator) -> Reduction:
    """Return what adds up the leaves of a run.

    Parameters
    ----------
    model : Model
        Of whose passes it is told, where gradients go out meanwhile.
    share : Share
    communicator : Communicator
    """
    if communicator.size == 1:
        return SoleReduction(model.parameters, share)
    return SharedReduction(model, share, communicator)
