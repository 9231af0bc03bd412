"""What the ranks of a run send each other in an update, known before there is a run.

A gradient goes to those who update it and comes back as parameters, so each rank sends and receives
about twice all parameters, times (N - 1)/N. A rank that is left with several sums, because the
number of leaves is no power of two times that of ranks, sends each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tisslm.training.ranks.layout import Bucket
from tisslm.training.ranks.share import Share
from tisslm.training.ranks.tree import nodes_of

__all__ = ["Flow", "Traffic", "gradient_flows", "most_traffic", "sums_of_ranks", "weight_flows"]


class Flow(NamedTuple):
    """What a rank sends to all others together, and what it receives of them."""

    sent: int
    received: int


class Traffic(NamedTuple):
    """Bytes of an update, of a rank.

    Attributes
    ----------
    gradients, weights : Flow
    """

    gradients: Flow
    weights: Flow


def sums_of_ranks(share: Share) -> list[int]:
    """Return how many sums each rank is left with in a whole update, and sends."""
    return [len(nodes_of(share.leaves_of(rank))) for rank in range(share.size)]


def gradient_flows(bucket: Bucket, sums: Sequence[int]) -> list[Flow]:
    """Return the elements of a bucket that each rank sends and receives as gradients.

    Parameters
    ----------
    bucket : Bucket
    sums : sequence of int
        How many each rank sends.
    """
    total, length = sum(sums), bucket.stop - bucket.start
    return [
        Flow(own_sums * (length - own), (total - own_sums) * own)
        for own_sums, own in zip(sums, _lengths(bucket), strict=True)
    ]


def weight_flows(bucket: Bucket) -> list[Flow]:
    """Return the elements of a bucket that each rank sends and receives as updated parameters."""
    others, length = len(bucket.ranges) - 1, bucket.stop - bucket.start
    return [Flow(own * others, length - own) for own in _lengths(bucket)]


def most_traffic(buckets: Sequence[Bucket], share: Share, itemsize: int) -> Traffic:
    """Return the bytes of an update, each those of the rank that has most of them.

    Parameters
    ----------
    buckets : sequence of Bucket
    share : Share
        Of any of the ranks.
    itemsize : int
        Bytes of an element.
    """
    sums = sums_of_ranks(share)
    gradients = _most([gradient_flows(bucket, sums) for bucket in buckets], itemsize)
    return Traffic(gradients, _most(list(map(weight_flows, buckets)), itemsize))


def _lengths(bucket: Bucket) -> list[int]:
    return [stop - start for start, stop in bucket.ranges]


def _most(flows: Sequence[Sequence[Flow]], itemsize: int) -> Flow:
    """Add up each rank's flows of all buckets, and return the most that any sends or receives."""
    of_ranks = [
        [sum(numbers) for numbers in zip(*own, strict=True)] for own in zip(*flows, strict=True)
    ]
    return Flow(*(itemsize * max(numbers) for numbers in zip(*of_ranks, strict=True)))
