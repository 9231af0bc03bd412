"""Which rows and leaves of an update are whose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tisslm.config import TrainingConfig
from tisslm.contracts import Communicator
from tisslm.errors import ConfigError, ShapeError

__all__ = ["Share", "for_ranks", "make_share", "share_of"]


@dataclass(frozen=True)
class Share:
    """How the rows of every update are cut into micro-batches, leaves and ranks.

    Rows are numbered within the update, and so are its micro-batches and leaves; what follows from
    these numbers is the same for any number of ranks. An update that has fewer rows, as the last
    one of an epoch may, lacks its last ones, and with them leaves, or all of a rank's.

    Attributes
    ----------
    rows : int
        Of a whole update.
    batch_size : int
        Rows of a micro-batch.
    parts : int
        Leaves of a whole update.
    rank, size : int
        This rank, and how many there are.
    """

    rows: int
    batch_size: int
    parts: int
    rank: int = 0
    size: int = 1

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a whole update, the last of which may be smaller."""
        return -(-self.rows // self.batch_size)

    def first_row(self, leaf: int) -> int:
        """Return the first row of a leaf; of the one behind the last, the number of rows."""
        return min(self.rows, self.micro_batches * leaf // self.parts * self.batch_size)

    def leaves_of(self, rank: int) -> range:
        """Return the leaves of a rank in a whole update."""
        return range(self.parts * rank // self.size, self.parts * (rank + 1) // self.size)

    @property
    def leaves(self) -> range:
        """The leaves of this rank in a whole update."""
        return self.leaves_of(self.rank)

    @property
    def own_rows(self) -> range:
        """The rows of this rank in a whole update."""
        leaves = self.leaves
        return range(self.first_row(leaves.start), self.first_row(leaves.stop))

    def cut(self, given: int) -> Iterator[tuple[int, int, int]]:
        """Yield each leaf of this rank with its first row, and the one behind its last.

        Rows are counted from this rank's first one. One rank alone may be given more rows than an
        update has; they are the last leaf's.

        Parameters
        ----------
        given : int
            Rows that there are.
        """
        leaves, offset = self.leaves, self.own_rows.start
        for leaf in leaves:
            first = self.first_row(leaf) - offset
            stop = given if leaf == leaves[-1] else min(given, self.first_row(leaf + 1) - offset)
            if first < stop:
                yield leaf, first, stop

    def whole(self, given: Sequence[int]) -> int:
        """Return the rows of an update of which the ranks were given so many each.

        Raises
        ------
        ShapeError
            If one was given rows that are not its own, or lacks some that come before others.
        """
        total = sum(given)
        if self.size > 1:
            for rank, rows in enumerate(given):
                own = replace(self, rank=rank).own_rows
                expected = max(0, min(total, own.stop) - own.start)
                if rows != expected:
                    raise ShapeError(
                        f"train_step: expected {expected} of the {total} rows of this update on "
                        f"rank {rank} of {self.size}, got {rows}; give each rank the rows of its "
                        "share (dataset.stream(..., part=))"
                    )
        return total

    def present(self, rows: int) -> int:
        """Return how many leaves an update of so many rows has, which are its first ones."""
        return next((v for v in range(self.parts) if self.first_row(v) >= rows), self.parts)


def for_ranks(config: TrainingConfig, size: int) -> TrainingConfig:
    """Return a configuration whose rows per update are those of all ranks.

    Parameters
    ----------
    config : TrainingConfig
    size : int
        Number of ranks. ``batch_size`` and ``gradient_accumulation_steps`` are each rank's; a
        ``global_batch_size`` that was set is that of all of them, whatever their number.

    Raises
    ------
    ConfigError
        If an update has fewer micro-batches than there are ranks.
    """
    if size == 1:
        return config
    rows = config.global_batch_size or config.rows_per_update * size
    if rows < config.batch_size * size and config.reduction_parts is None:
        raise ConfigError(
            f"training.global_batch_size: expected at least a micro-batch of batch_size = "
            f"{config.batch_size} rows for each of {size} ranks, got {rows}; lower batch_size or "
            "start fewer ranks"
        )
    changed = {"gradient_accumulation_steps": 1, "global_batch_size": rows}
    return config.model_copy(update=changed)


def make_share(config: TrainingConfig, communicator: Communicator) -> Share:
    """Return the share of this rank in every update of a run that begins.

    Parameters
    ----------
    config : TrainingConfig
        Of all ranks (``for_ranks``).
    communicator : Communicator

    Raises
    ------
    ConfigError
        If there are more parts than micro-batches.
    """
    return share_of(config, communicator.rank, communicator.size)


def share_of(config: TrainingConfig, rank: int, size: int) -> Share:
    """Return the share of a rank, which there need not be yet.

    Parameters
    ----------
    config : TrainingConfig
        Of all ranks (``for_ranks``).
    rank, size : int

    Raises
    ------
    ConfigError
        If there are more parts than micro-batches.
    """
    parts = config.reduction_parts or size
    share = Share(config.rows_per_update, config.batch_size, parts, rank, size)
    if parts > share.micro_batches:
        raise ConfigError(
            f"training.reduction_parts: expected at most the {share.micro_batches} micro-batches "
            f"of an update ({config.rows_per_update} rows, batch_size = {config.batch_size}), got "
            f"{parts}; lower it, or batch_size"
        )
    return share
