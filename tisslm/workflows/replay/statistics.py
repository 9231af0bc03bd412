"""Statistics of activations and of their gradients at each place of a step's passes.

Monitors, which measure during training, are in ``tisslm.tracking.monitors``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import PassObserver
from tisslm.system.strict_json import plain_number

__all__ = ["PlaceStatistics", "Statistics"]

Array = NDArray[Any]

#: Elements that are processed at a time.
BLOCK = 2**16

#: The arrays of which statistics are taken, by direction.
SHOWN = {
    "forward": ("stream", "hidden", "qkv", "heads", "pre", "up"),
    "backward": ("d_stream", "d_hidden"),
}

#: Arrays that belong to another place: the last block, and the final norm.
TWICE = frozenset({("final_norm", "stream"), ("head", "hidden")})


@dataclass(frozen=True)
class Statistics:
    """Statistics of the numbers at one place.

    Attributes
    ----------
    place, direction, array : str
        Where they were taken, such as "blocks.0.mlp", "forward", "stream".
    mean, std, absmax : float
        Mean, standard deviation and largest magnitude of the finite numbers of all micro-batches.
    zeros : float
        Fraction of all numbers that are zero.
    n_non_finite, n : int
        How many numbers are not finite, and how many there are.
    """

    place: str
    direction: str
    array: str
    mean: float
    std: float
    absmax: float
    zeros: float
    n_non_finite: int
    n: int

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            name: plain_number(value) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


@dataclass
class _Sums:
    """Running sums over the finite numbers of an array that comes in parts."""

    n: int = 0
    finite: int = 0
    zeros: int = 0
    total: float = 0.0
    squares: float = 0.0
    absmax: float = 0.0

    def add(self, array: Array) -> None:
        flat = array.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            block = ops.widen(flat[start : start + BLOCK]).astype(np.float64)
            self.n += block.size
            block = block[np.isfinite(block)]
            if not block.size:
                continue
            self.finite += block.size
            self.zeros += block.size - int(np.count_nonzero(block))
            self.total += float(block.sum())
            self.squares += float(np.square(block).sum())
            self.absmax = max(self.absmax, float(np.abs(block).max()))

    @property
    def mean(self) -> float:
        return self.total / self.finite if self.finite else math.nan

    @property
    def std(self) -> float:
        if not self.finite:
            return math.nan
        return math.sqrt(max(self.squares / self.finite - self.mean**2, 0.0))


class PlaceStatistics(PassObserver):
    """An observer that takes statistics at each place of a pass; recomputed forwards are left out.

    Attributes
    ----------
    rows : list of Statistics
        In the order of the pass.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, str], _Sums] = {}

    def leave(self, place: str, direction: str, arrays: Mapping[str, Array]) -> None:
        """Add the arrays that a place has written."""
        for name in SHOWN.get(direction, ()):
            if name in arrays and (place, name) not in TWICE:
                self._sums.setdefault((place, direction, name), _Sums()).add(arrays[name])

    @property
    def rows(self) -> list[Statistics]:
        """The statistics so far."""
        return [
            Statistics(*key, s.mean, s.std, s.absmax, s.zeros / max(s.n, 1), s.n - s.finite, s.n)
            for key, s in self._sums.items()
        ]
