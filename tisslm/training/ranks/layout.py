"""Where the flat gradient is cut: into buckets that are exchanged at once, and among the ranks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tisslm import ops
from tisslm.memory import Parameters
from tisslm.memory.shards import Range

__all__ = ["BUCKET_BYTES", "Bucket", "buckets_of", "ranges_of"]

#: Gradient that is exchanged at once. Larger ones need more memory for what is received, smaller
#: ones more messages; PyTorch's DistributedDataParallel has 25 MiB, too.
BUCKET_BYTES = 25 * 2**20


class Bucket:
    """A range of the flat arrays, cut among the ranks.

    Every cut but the last is at a multiple of 16384 elements, so that the blocks whose squares are
    added up lie with one rank each.

    Parameters
    ----------
    start, stop : int
        The range; ``start`` is a multiple of 16384.
    size : int
        Number of ranks.
    """

    def __init__(self, start: int, stop: int, size: int) -> None:
        block = ops.NORM_BLOCK
        blocks = -(-(stop - start) // block)
        edges = [min(stop, start + blocks * rank // size * block) for rank in range(size)] + [stop]
        self.start, self.stop = start, stop
        self.ranges: Sequence[Range] = list(itertools.pairwise(edges))


def buckets_of(parameters: Parameters, size: int) -> list[Bucket]:
    """Cut flat arrays into buckets, in the order in which a backward pass is done with them.

    That is the order of the parameter in a bucket that a forward pass comes to first, last one
    first. Groups begin buckets of their own, about: a group of small parameters from all layers
    would hold up the large ones beside it.

    Parameters
    ----------
    parameters : Parameters
    size : int
        Number of ranks.
    """
    block, count = ops.NORM_BLOCK, parameters.grad_arena.size
    step = max(1, BUCKET_BYTES // parameters.dtype.itemsize // block) * block
    cuts = {group.start // block * block for group in parameters.groups} | {0, count}
    edges = sorted(
        {edge for low, high in itertools.pairwise(sorted(cuts)) for edge in range(low, high, step)}
    )
    buckets = [Bucket(a, b, size) for a, b in itertools.pairwise([*edges, count]) if a < b]
    trainable = [p for p in parameters if p.trainable]

    def first_of(bucket: Bucket) -> int:
        return next(
            number
            for number, p in enumerate(trainable)
            if p.offset < bucket.stop and p.offset + p.size > bucket.start
        )

    return sorted(buckets, key=lambda bucket: (-first_of(bucket), -bucket.start))


def ranges_of(buckets: Sequence[Bucket], rank: int) -> list[Range]:
    """Return a rank's ranges of all buckets, in ascending order."""
    found = (bucket.ranges[rank] for bucket in buckets)
    return sorted((start, stop) for start, stop in found if start < stop)
