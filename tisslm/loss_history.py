"""The loss of every update of a run, in eight bytes each.

What does not live here: what is made of them (``guard``, reports), and the file they are kept in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["LossHistory"]

Array = NDArray[Any]

#: Room is laid out for so many losses before the first step, 8 MiB at most.
MOST_PLANNED = 2**20

#: And for so many at least.
LEAST = 1024


class LossHistory(Sequence[float]):
    """A sequence of losses that grows at its end; compares, indexes and slices like a list.

    A list of as many floats takes four times the memory, which a long run would see growing.

    Parameters
    ----------
    losses : iterable of float, default ()
        In nats.
    room : int, default 0
        How many there will be; up to 2^20 of them take their memory now, not while training.
    """

    def __init__(self, losses: Iterable[float] = (), *, room: int = 0) -> None:
        first = np.array(losses if isinstance(losses, np.ndarray) else list(losses), np.float64)
        self._count = len(first)
        self._losses = np.empty(max(LEAST, min(room, MOST_PLANNED), self._count), np.float64)
        self._losses.fill(np.nan)  # touched now: pages of fresh memory are not there before
        self._losses[: self._count] = first

    def append(self, loss: float) -> None:
        """Add the loss of an update."""
        if self._count == len(self._losses):
            grown = np.full(2 * len(self._losses), np.nan)
            grown[: self._count] = self._losses
            self._losses = grown
        self._losses[self._count] = loss
        self._count += 1

    def as_array(self) -> Array:
        """Return the losses as a view, float64 of shape (n,)."""
        return self._losses[: self._count]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...

    def __getitem__(self, index: int | slice) -> float | list[float]:
        found = self.as_array()[index].tolist()
        return found  # type: ignore[no-any-return]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return self[:] == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self[:])
