"""Where the flat gradient is cut: into buckets that are exchanged at once, and among the ranks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tisslm import ops
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


def buckets_of(
    count: int, size: int, nbytes: int = BUCKET_BYTES, itemsize: int = 4
) -> list[Bucket]:
    """Cut flat arrays into buckets, in the order in which a backward pass is done with them.

    Parameters
    ----------
    count : int
        Elements of the flat arrays.
    size : int
        Number of ranks.
    itemsize : int
        Bytes of an element.
    """
    block = ops.NORM_BLOCK
    step = max(1, BUCKET_BYTES // itemsize // block) * block
    starts = range(0, count, step)
    return [Bucket(start, min(start + step, count), size) for start in reversed(starts)]


def ranges_of(buckets: Sequence[Bucket], rank: int) -> list[Range]:
    """Return a rank's ranges of all buckets, in ascending order."""
    found = (bucket.ranges[rank] for bucket in buckets)
    return sorted((start, stop) for start, stop in found if start < stop)
