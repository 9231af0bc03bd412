"""The norm of an update, from sums that the kernels of the optimizers compute in passing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops

if TYPE_CHECKING:
    from tisslm.memory import ParameterGroup, Parameters
    from tisslm.memory.shards import ParameterShard

__all__ = ["Movement"]


class Movement:
    """Euclidean norms of an update and of the parameters before it, without a copy of them.

    The optimizer hands ``part(group)`` to the kernel of each group, which writes
    two partial sums for every 16384 elements; adding these takes microseconds.

    Parameters
    ----------
    parameters : Parameters or ParameterShard
        Those that the optimizer updates.
    gather : callable, optional
        Returns the bytes of every rank, in the order of ranks; all ranks ask at the same steps.
        Left out, this process has all parameters.
    """

    def __init__(
        self,
        parameters: Parameters | ParameterShard,
        gather: Callable[[bytes], list[bytes]] | None = None,
    ) -> None:
        self._gather = gather
        rows = _rows(parameters.groups)
        self._sums_K2: NDArray[Any] = np.zeros((sum(rows), 2))
        stops = np.cumsum(rows, dtype=np.int64).tolist()
        self._parts = {
            group.start: self._sums_K2[stop - n : stop]
            for group, n, stop in zip(parameters.groups, rows, stops, strict=True)
        }

    @staticmethod
    def planned(parameters: Parameters) -> int:
        """Return the bytes that the sums take for these parameters."""
        return 16 * sum(_rows(parameters.groups))

    def part(self, group: ParameterGroup) -> NDArray[Any]:
        """Return the float64 array of shape (K, 2) for the sums of a group's update."""
        return self._parts[group.start]

    def _all(self) -> NDArray[Any]:
        """Return the partial sums of all ranks."""
        if self._gather is None:
            return self._sums_K2
        found = self._gather(self._sums_K2.tobytes())
        return np.concatenate([np.frombuffer(data) for data in found]).reshape(-1, 2)

    @property
    def update_norm(self) -> float:
        """The Euclidean norm of what the last measured update has added to the parameters."""
        return _root(self._all()[:, 0])

    @property
    def parameter_norm(self) -> float:
        """The Euclidean norm of the parameters before that update."""
        return _root(self._all()[:, 1])

    @property
    def ratio(self) -> float:
        """The norm of the update over that of the parameters; NaN where these are zero."""
        size = self.parameter_norm
        return self.update_norm / size if size else math.nan


def _rows(groups: Sequence[ParameterGroup]) -> list[int]:
    """Return the number of partial sums of each group."""
    return [-(-(group.stop - group.start) // ops.NORM_BLOCK) for group in groups]


def _root(sums_K: NDArray[Any]) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(sums_K.sum())
    return math.sqrt(total) if total >= 0.0 else math.nan
