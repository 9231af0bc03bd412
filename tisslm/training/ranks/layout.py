"""Where the flat gradient is cut: into buckets that are exchanged at once, and among the ranks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tisslm import ops
from tisslm.memory import Parameters
from tisslm.memory.shards import Range
from tisslm.registry import Registry

__all__ = ["BUCKET_BYTES", "Bucket", "buckets_of", "cut_evenly", "needs_whole", "ranges_of"]

#: Gradient that is exchanged at once. Larger ones need more memory for what is received, smaller
#: ones more messages; PyTorch's DistributedDataParallel has 25 MiB, too.
BUCKET_BYTES = 25 * 2**20


class Bucket:
    """A range of the flat arrays, cut among the ranks.

    Parameters
    ----------
    start, stop : int
        The range.
    ranges : sequence of (start, stop)
        That of each rank.
    """

    def __init__(self, start: int, stop: int, ranges: Sequence[Range]) -> None:
        self.start, self.stop = start, stop
        self.ranges = ranges


def needs_whole(registry: Registry, optimizer: object) -> bool:
    """Tell whether an optimizer, named or built, needs whole parameters.

    Parameters
    ----------
    registry : Registry
    optimizer : str, (str, dict) or Optimizer
        Anything else is told when it is built.
    """
    name = optimizer[0] if isinstance(optimizer, tuple | list) and optimizer else optimizer
    found = registry.part("optimizer", name).load() if isinstance(name, str) else optimizer
    return not getattr(found, "elementwise", True)


def buckets_of(parameters: Parameters, size: int, *, shaped: bool = False) -> list[Bucket]:
    """Cut flat arrays into buckets, in the order in which a backward pass is done with them.

    That is the order of the parameter in a bucket that a forward pass comes to first, last one
    first. Groups begin buckets of their own, about: a group of small parameters from all layers
    would hold up the large ones beside it.

    Parameters
    ----------
    parameters : Parameters
    size : int
        Number of ranks.
    shaped : bool
        Whether each parameter goes to one rank, whole; otherwise, each bucket is cut evenly.
    """
    buckets = _of_parameters(parameters, size) if shaped else _of_elements(parameters, size)
    trainable = [p for p in parameters if p.trainable]

    def first_of(bucket: Bucket) -> int:
        return next(
            number
            for number, p in enumerate(trainable)
            if p.offset < bucket.stop and p.offset + p.size > bucket.start
        )

    return sorted(buckets, key=lambda bucket: (-first_of(bucket), -bucket.start))


def _of_elements(parameters: Parameters, size: int) -> list[Bucket]:
    """Cut at multiples of 16384 elements.

    The blocks whose squares are added up then lie with one rank each.
    """
    block, count = ops.NORM_BLOCK, parameters.grad_arena.size
    step = max(1, BUCKET_BYTES // parameters.dtype.itemsize // block) * block
    cuts = {group.start // block * block for group in parameters.groups} | {0, count}
    edges = sorted(
        {edge for low, high in itertools.pairwise(sorted(cuts)) for edge in range(low, high, step)}
    )
    pairs = itertools.pairwise([*edges, count])
    return [cut_evenly(start, stop, size) for start, stop in pairs if start < stop]


def cut_evenly(start: int, stop: int, size: int) -> Bucket:
    """Cut a range, which starts at a multiple of 16384, among ranks at such multiples."""
    block = ops.NORM_BLOCK
    blocks = -(-(stop - start) // block)
    inner = [min(stop, start + blocks * rank // size * block) for rank in range(size)]
    return Bucket(start, stop, list(itertools.pairwise([*inner, stop])))


#: Buckets that a rank has about, where they are not cut: more of them lie more evenly.
OWNED = 8


def _of_parameters(parameters: Parameters, size: int) -> list[Bucket]:
    """Cut between parameters; each bucket is one rank's, the largest first to who has least."""
    count = parameters.grad_arena.size
    most = min(BUCKET_BYTES // parameters.dtype.itemsize, count // (OWNED * size))
    starts = sorted(p.offset for p in parameters if p.trainable)
    begun = {group.start for group in parameters.groups}
    edges = starts[:1]
    for start, stop in itertools.pairwise([*starts, count]):
        if start in begun or stop - edges[-1] > most:
            edges.append(start)
    runs = [(a, b) for a, b in itertools.pairwise([*edges, count]) if a < b]
    owned, buckets = [0] * size, []
    for start, stop in sorted(runs, key=lambda run: (run[0] - run[1], run[0])):
        owner = owned.index(min(owned))
        owned[owner] += stop - start
        ranges = [(start, stop if rank == owner else start) for rank in range(size)]
        buckets.append(Bucket(start, stop, ranges))
    return buckets


def ranges_of(buckets: Sequence[Bucket], rank: int) -> list[Range]:
    """Return a rank's ranges of all buckets, in ascending order."""
    found = (bucket.ranges[rank] for bucket in buckets)
    return sorted((start, stop) for start, stop in found if start < stop)
