"""From the gradients of leaves to the one that an update is made with, on one rank or several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Communicator
from tisslm.memory import Arena, Parameters
from tisslm.memory.shards import ParameterShard
from tisslm.training.ranks.layout import Bucket, buckets_of, ranges_of
from tisslm.training.ranks.share import Share
from tisslm.training.ranks.states import GatheredArrays, own_part
from tisslm.training.ranks.tree import Fold, Node, nodes_of

__all__ = ["Reduction", "SharedReduction", "SoleReduction", "make_reduction", "waiting_arrays"]

Array = NDArray[Any]


class Reduction(ABC):
    """Adds up what leaves leave in the gradient, and knows what the optimizer updates.

    Parameters
    ----------
    parameters : Parameters
        Of the model, whose gradient each leaf is computed in.
    share : Share
    """

    def __init__(self, parameters: Parameters, share: Share) -> None:
        self.parameters = parameters
        self.share = share
        self._waiting = _Waiting(parameters)
        self._begin()

    def _begin(self) -> None:
        self._fold: Fold[Array] = Fold(self._waiting.add, self._waiting.keep)

    @property
    @abstractmethod
    def updated(self) -> Parameters | ParameterShard:
        """What the optimizer is to update on this rank."""

    @final
    def add_leaf(self, leaf: int, *, last: bool) -> None:
        """Take the gradient that a leaf has left.

        Parameters
        ----------
        leaf : int
            They come in ascending order.
        last : bool
            Whether it is this rank's last one of the update.
        """
        self._fold.put(Node(0, leaf), self.parameters.grad, last=last)

    def cut_into(self, parts: int) -> None:
        """Cut every update from here on into so many leaves."""
        self.share = replace(self.share, parts=parts)

    @abstractmethod
    def finish(self, present: int) -> None:
        """Leave the sum over all leaves in the gradient of what is updated.

        Parameters
        ----------
        present : int
            Leaves of the update.
        """

    @abstractmethod
    def publish(self) -> None:
        """Give all ranks the parameters that were updated."""

    @abstractmethod
    def publish_gradient(self) -> None:
        """Give all ranks the whole gradient, for those who look at it."""

    @abstractmethod
    def whole_state(self, own: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the optimizer's state of all ranks, of what this rank's has.

        Parameters
        ----------
        own : mapping of str to ndarray
        """

    @abstractmethod
    def own_part(self, name: str, array: Array) -> Array | None:
        """Return what this rank's optimizer has of an array of the whole state; None for nothing.

        Parameters
        ----------
        name : str
        array : ndarray
        """

    @abstractmethod
    def forget(self) -> None:
        """Drop what was added, because the update is not made."""


class _Waiting:
    """The sums that wait for their second half, while the gradient's own array is written again."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._free: list[Array] = []

    def keep(self, grad_P: Array) -> Array:
        """Return a copy, in an array that no other sum waits in."""
        kept_P = self._free.pop() if self._free else self._new()
        np.copyto(kept_P, grad_P)
        return kept_P

    def add(self, left_P: Array, right_P: Array) -> Array:
        """Add a sum that has waited to one that lies in the gradient's own array."""
        ops.add(right_P, left_P)
        self._free.append(left_P)
        return right_P

    def take_back(self, kept_P: Array) -> None:
        """Let an array be used again."""
        self._free.append(kept_P)

    def _new(self) -> Array:
        like_P = self._parameters.data
        return Arena(like_P.nbytes).take(like_P.shape, like_P.dtype)


@final
class SoleReduction(Reduction):
    """One rank has all leaves: their sum ends in the gradient of the model's parameters."""

    @property
    def updated(self) -> Parameters:
        """The parameters."""
        return self.parameters

    def finish(self, present: int) -> None:
        """Add what still waits."""
        self._fold.total()
        self._begin()

    def publish(self) -> None:
        """Do nothing: the parameters are updated where they are read."""

    def publish_gradient(self) -> None:
        """Do nothing: the gradient is where it is looked at."""

    def whole_state(self, own: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return it."""
        return own

    def own_part(self, name: str, array: Array) -> Array:
        """Return all of it."""
        return array

    def forget(self) -> None:
        """Drop what was added."""
        for _, value in self._fold.nodes():
            if value is not self.parameters.grad_arena:
                self._waiting.take_back(value)
        self._begin()


@final
class SharedReduction(Reduction):
    """Several ranks have leaves, and each updates its own ranges of the flat parameters.

    Each rank adds up what it has both halves of. Bucket by bucket, every owner of a range is sent
    that range of all ranks' sums, and adds them in the order of leaves.

    Parameters
    ----------
    parameters : Parameters
    share : Share
    communicator : Communicator
    """

    def __init__(self, parameters: Parameters, share: Share, communicator: Communicator) -> None:
        super().__init__(parameters, share)
        self.communicator = communicator
        rank, size = communicator.rank, communicator.size
        self.buckets = buckets_of(parameters.data.size, size, itemsize=parameters.dtype.itemsize)
        self.shard = _NormedShard(parameters, self.buckets, communicator)
        self._pieces = {piece[0]: grad for piece, grad in self.shard.pieces(self.shard.grad)}
        self._sums = _Received(self.buckets, rank, size, parameters.dtype)

    @property
    def updated(self) -> ParameterShard:
        """The ranges of this rank."""
        return self.shard

    def finish(self, present: int) -> None:
        """Exchange all buckets, and add up what arrives."""
        self.shard.read()  # whoever has set parameters meanwhile, a checkpoint's or others
        own = self._fold.nodes()
        nodes = [
            nodes_of(leaf for leaf in self.share.leaves_of(rank) if leaf < present)
            for rank in range(self.communicator.size)
        ]
        for bucket in self.buckets:
            self._exchange(bucket, [value for _, value in own], nodes)
        self.forget()

    def _exchange(self, bucket: Bucket, own: list[Array], nodes: list[list[Node]]) -> None:
        """Leave the sum of this rank's range of a bucket in the shard's gradient."""
        rounds = max(len(found) for found in nodes)
        received = [
            self._sums.arrays(bucket, number, [number < len(found) for found in nodes])
            for number in range(rounds)
        ]
        for number in range(rounds):
            whole = own[number] if number < len(own) else self.parameters.grad_arena[:0]
            sent = [whole[start:stop] for start, stop in bucket.ranges]
            self.communicator.exchange(sent, received[number])
        start, stop = bucket.ranges[self.communicator.rank]
        if start == stop:
            return
        fold: Fold[Array] = Fold(_add)
        for rank, found in enumerate(nodes):
            for number, node in enumerate(found):
                fold.put(node, received[number][rank])
        self._pieces[start][...] = fold.total()

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

    def forget(self) -> None:
        """Drop what was added."""
        for _, value in self._fold.nodes():
            if value is not self.parameters.grad_arena:
                self._waiting.take_back(value)
        self._begin()


class _Received:
    """Arrays for what all ranks send of one bucket, used for every bucket."""

    def __init__(self, buckets: list[Bucket], rank: int, size: int, dtype: Any) -> None:
        self._rank = rank
        self._length = max((b.ranges[rank][1] - b.ranges[rank][0] for b in buckets), default=0)
        self._size = size
        self._dtype = dtype
        self._rounds: list[Array] = []

    def arrays(self, bucket: Bucket, number: int, sends: list[bool]) -> list[Array]:
        """Return one for each rank: empty where a rank has nothing to send this time."""
        while len(self._rounds) <= number:
            nbytes = self._size * self._length * np.dtype(self._dtype).itemsize
            block = Arena(nbytes).take((self._size, self._length), self._dtype)
            self._rounds.append(block)
        start, stop = bucket.ranges[self._rank]
        return [
            self._rounds[number][rank, : stop - start if some else 0]
            for rank, some in enumerate(sends)
        ]


def _add(left: Array, right: Array) -> Array:
    ops.add(left, right)
    return left


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


def make_reduction(parameters: Parameters, share: Share, communicator: Communicator) -> Reduction:
    """Return what adds up the leaves of a run.

    Parameters
    ----------
    parameters : Parameters
    share : Share
    communicator : Communicator
    """
    if communicator.size == 1:
        return SoleReduction(parameters, share)
    return SharedReduction(parameters, share, communicator)


def waiting_arrays(share: Share) -> int:
    """Return how many copies of the gradient wait at once on the rank of a share, at most."""
    most, waiting = 0, 0
    fold: Fold[None] = Fold(lambda left, right: None)
    for leaf in share.leaves:
        fold.put(Node(0, leaf), None)
        waiting = len(fold.nodes()) - (leaf == share.leaves[-1])
        most = max(most, waiting)
    return most
