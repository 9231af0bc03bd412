"""Which rows and leaves of an update are whose."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Share"]


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

    def present(self, rows: int) -> int:
        """Return how many leaves an update of so many rows has, which are its first ones."""
        return next((v for v in range(self.parts) if self.first_row(v) >= rows), self.parts)
