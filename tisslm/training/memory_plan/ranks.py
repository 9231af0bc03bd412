"""What a rank takes of memory that one rank alone does not, and what it takes less of.

Ranks differ by little: some own a block more of the parameters, some have a leaf more of an update,
and rank 0 writes the checkpoints. Each figure is of the rank that has most of it, so that what fits
by these fits on all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tisslm.config import TrainingConfig
from tisslm.contracts import Dataset, Network
from tisslm.memory.arenas import ShapeArena, aligned
from tisslm.memory.shards import ParameterShard
from tisslm.training.memory_plan.items import Item
from tisslm.training.ranks.layout import buckets_of, ranges_of
from tisslm.training.ranks.reduction import waiting_arrays
from tisslm.training.ranks.share import share_of
from tisslm.training.ranks.traffic import Traffic, most_traffic, sums_of_ranks

__all__ = ["RankPlan", "waiting_item"]


class RankPlan:
    """The ranks of a run that is planned: who has most of what.

    Parameters
    ----------
    model : Network
        With memory or of shapes.
    config : TrainingConfig
        Of all ranks (``for_ranks``).
    size : int
        Number of ranks, at least 2.
    shaped : bool
        Whether each has whole parameters, for an optimizer that needs them.

    Attributes
    ----------
    share : Share
        Of rank 0.
    shard : ParameterShard
        Of the rank that updates most, without memory.
    traffic : Traffic
        Bytes of an update, of a rank.

    Raises
    ------
    ConfigError
        If an update has fewer micro-batches than parts.
    """

    def __init__(
        self, model: Network, config: TrainingConfig, size: int, *, shaped: bool = False
    ) -> None:
        parameters = model.parameters
        self._whole = parameters
        self.batch_size = config.batch_size
        self.size = size
        self.share = share_of(config, 0, size)
        self._shares = [share_of(config, rank, size) for rank in range(size)]
        self._buckets = buckets_of(parameters, size, shaped=shaped)
        owned = [0] * size
        for bucket in self._buckets:
            for rank, (start, stop) in enumerate(bucket.ranges):
                owned[rank] += stop - start
        ranges = ranges_of(self._buckets, owned.index(max(owned)))
        self.shard = ParameterShard(parameters, ranges, arena=ShapeArena, shaped=shaped)
        self.traffic: Traffic = most_traffic(self._buckets, self.share, parameters.dtype.itemsize)

    @property
    def rows(self) -> int:
        """Rows of an update, of the rank that has most."""
        return max(len(share.own_rows) for share in self._shares)

    @property
    def micro_batches(self) -> int:
        """Micro-batches of an update, of the rank that has most."""
        return -(-self.rows // self.batch_size)

    def read_rows(self, dataset: Dataset) -> int:
        """Return how many rows of an update a rank holds of a dataset.

        They are its own where the dataset makes no others, and otherwise all.
        """
        makes_all = type(dataset).stream_part is Dataset.stream_part
        return self.share.rows if makes_all else self.rows

    def items(self, state: Sequence[Item]) -> Iterator[Item]:
        """Yield what a rank takes for being one of several, beside its optimizer's state.

        Parameters
        ----------
        state : sequence of Item
            The optimizer's state, of which a checkpoint has all arrays.
        """
        itemsize = self._whole.dtype.itemsize
        copy = aligned(self.shard.data.size * itemsize)
        yield Item("shard copies", "", 2 * copy)
        yield waiting_item(self._whole.data.nbytes, max(map(waiting_arrays, self._shares)))
        longest = max(stop - start for bucket in self._buckets for start, stop in bucket.ranges)
        received = aligned(self.size * longest * itemsize)
        yield Item("received pieces", "", max(sums_of_ranks(self.share)) * received)
        if state:  # one array at a time, in pieces and then whole
            yield Item("checkpoint gathering", "", 2 * self._largest())

    def _largest(self) -> int:
        return max((p.data.nbytes for p in self._whole if p.trainable), default=0)


def waiting_item(nbytes: int, count: int) -> Item:
    """Return what sums of gradients take that wait for their second half.

    Parameters
    ----------
    nbytes : int
        Of a whole gradient.
    count : int
        How many wait at once.
    """
    return Item("waiting sums", "", count * aligned(nbytes))
