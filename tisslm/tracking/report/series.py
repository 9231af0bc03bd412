"""A metric over the steps of a run: smoothing, and fewer points that look the same.

What does not live here: reading it (``reading``), and drawing it (``curves``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kept", "Series"]

Floats = NDArray[np.float64]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Series:
    """Values of a metric.

    Attributes
    ----------
    x : ndarray of float64 of shape (n,)
        Steps, or whatever they were replaced by (tokens, hours); ascending.
    y : ndarray of float64 of shape (n,)
        NaN and the infinities are values like others.
    """

    x: Floats
    y: Floats

    @classmethod
    def of(cls, steps: Iterable[float], values: Iterable[float]) -> Series:
        """Order by step; where a step comes twice, its last value counts."""
        x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
        last = np.append(x[1:] != x[:-1], True)[: len(x)]
        return cls(x[last], y[last])

    def __len__(self) -> int:
        return len(self.x)

    def __bool__(self) -> bool:
        return len(self.x) > 0

    @property
    def finite(self) -> Series:
        """The values that are finite."""
        good = np.isfinite(self.y)
        return Series(self.x[good], self.y[good])

    @property
    def broken(self) -> Floats:
        """Where the values are not finite."""
        return self.x[~np.isfinite(self.y)]

    def smoothed(self, half_life: float) -> Series:
        """Average over the past, a value's weight halving every ``half_life`` of x.

        ``s_k = sum_j w_j y_j / sum_j w_j`` over j <= k, with ``w_j = 2^(-(x_k - x_j) / h)``. The
        division makes up for the beginning, and distances make up for lines that are missing.
        Values that are not finite are left out.

        Parameters
        ----------
        half_life : float
            h, positive, in units of x.
        """
        good = self.finite
        if not good:
            return good
        keep = np.exp2(-np.diff(good.x, prepend=good.x[0]) / half_life)
        out, total, weight = np.empty(len(good)), 0.0, 0.0
        for k, (share, value) in enumerate(zip(keep.tolist(), good.y.tolist(), strict=True)):
            total, weight = total * share + value, weight * share + 1.0
            out[k] = total / weight
        return Series(good.x, out)

    def thinned(self, most: int) -> Series:
        """Return at most about ``most`` points, the least and largest of each stretch among them.

        So no peak is lost, and a value that is not finite stays a gap.
        """
        n = len(self)
        if n <= most:
            return self
        edges = np.linspace(0, n, max(1, most // 4) + 1).astype(int)
        chosen = {0, n - 1}
        for start, stop in itertools.pairwise(edges.tolist()):
            part = self.y[start:stop]
            good = np.flatnonzero(np.isfinite(part))
            if len(good) < len(part):
                chosen.add(start + int(np.flatnonzero(~np.isfinite(part))[0]))
            if len(good):
                values = part[good]
                ends = (good[0], good[values.argmin()], good[values.argmax()])
                chosen.update(start + int(i) for i in ends)
        index = np.array(sorted(chosen))
        return Series(self.x[index], self.y[index])

    def over(self, axis: Series) -> Series:
        """Replace steps by what another series has there, between its points by a line."""
        known = axis.finite
        if len(known) < 2 or not self:
            return Series(np.empty(0), np.empty(0))
        inside = self.x >= known.x[0]
        return Series(np.interp(self.x[inside], known.x, known.y), self.y[inside])


class Kept(Generic[Item]):
    """At most so many of the items of a stream: evenly spread, the first and the last among them.

    Parameters
    ----------
    most : int
        The number of items that are kept at most, 2 or more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._stride = 1
        self._seen = 0
        self._kept: list[tuple[int, Item]] = []
        self._last: tuple[int, Item] | None = None

    def add(self, step: int, item: Item) -> None:
        """Take the next item; when there are too many, every second one goes."""
        self._last = (step, item)
        if self._seen % self._stride == 0:
            self._kept.append(self._last)
        self._seen += 1
        if len(self._kept) >= self._most:
            self._kept = self._kept[::2]
            self._stride *= 2

    @property
    def items(self) -> list[tuple[int, Item]]:
        """Steps and items, by step; where a step comes twice, its last item counts."""
        last = [] if self._last is None else [self._last]
        found = {step: (step, item) for step, item in [*self._kept, *last]}
        return sorted(found.values(), key=lambda pair: pair[0])
