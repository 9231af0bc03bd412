"""The monitor ``weight_distribution``: a histogram and quantiles of each parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np

from tisslm import ops
from tisslm.contracts import Histogram, Monitor
from tisslm.contracts.batch import FloatArray
from tisslm.contracts.metric_values import bin_range
from tisslm.errors import ConfigError

__all__ = ["WeightDistribution"]

#: Numbers of which quantiles are taken, at most: the 1 % quantile of a sample of so many is that
#: of 0.96 to 1.04 % of all.
SAMPLE = 2**16

#: Golden section: its multiples, less their whole parts, fill an interval evenly at any number of
#: them, and no period of rows or columns agrees with theirs.
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0

QUANTILES = {"p01": 0.01, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p99": 0.99}


@final
class WeightDistribution(Monitor):
    """Count the weights of each parameter in bins of one width, and take their quantiles.

    ``weights/<parameter>`` is a ``Histogram`` from the least to the greatest weight, with the sum
    and the sum of squares of all. ``weight/<parameter>/p01``, ``p25``, ``p50``, ``p75`` and
    ``p99`` are quantiles, between neighbours in proportion; of a parameter of more than 65536
    numbers, those of so many of them, always the same ones. Numbers that are not finite are left
    out; of a parameter that has no others, nothing is said.

    Parameters
    ----------
    bins : int, default 64
    """

    wants: ClassVar[frozenset[str]] = frozenset({"weights"})
    test_options = ({"bins": 3},)

    def __init__(self, *, bins: int = 64) -> None:
        if not isinstance(bins, int) or isinstance(bins, bool) or not 1 <= bins <= 4096:
            raise ConfigError(
                f"weight_distribution: bins: expected an integer from 1 to 4096, got {bins!r}"
            )
        self.bins = bins
        self._found: dict[str, object] = {}

    def observe(self, site: str, array: FloatArray) -> None:
        """Measure one parameter.

        Parameters
        ----------
        site : str
            Its name.
        array : ndarray of any shape, float32 or float64
            The array is only read.
        """
        x_P = np.ascontiguousarray(array).reshape(-1)
        histogram = _histogram(x_P, self.bins)
        if histogram is None:
            return
        self._found[f"weights/{site}"] = histogram
        some = _sample(x_P)
        some = some[np.isfinite(some)].astype(np.float64)
        if some.size:
            values = np.quantile(some, list(QUANTILES.values()))
            for name, value in zip(QUANTILES, values, strict=True):
                self._found[f"weight/{site}/{name}"] = float(value)

    def metrics(self) -> Mapping[str, object]:
        """Return what was observed since the last call."""
        found, self._found = self._found, {}
        return found


def _histogram(x_P: FloatArray, bins: int) -> Histogram | None:
    """Return the histogram of the finite numbers, None if there are none.

    The ordinary case takes no copy of a large parameter.
    """
    if not x_P.size:
        return None
    partial_K5 = np.empty((-(-x_P.size // ops.NORM_BLOCK), 5))
    ops.summarize(x_P, -math.inf, math.inf, partial_K5)
    if not np.isfinite(partial_K5[:, 2]).all():
        return Histogram.of(x_P, bins) if np.isfinite(x_P).any() else None
    counts, edges = np.histogram(x_P, bins=bins, range=bin_range(x_P, bins))
    total, squares = (float(value) for value in partial_K5[:, :2].sum(axis=0))
    return Histogram(counts.astype(np.int64), edges.astype(np.float64), total, squares)


def _sample(x_P: FloatArray) -> FloatArray:
    """Return the numbers at ``SAMPLE`` places spread over an array, or all of fewer."""
    if x_P.size <= SAMPLE:
        return x_P
    places = (np.arange(SAMPLE) * GOLDEN % 1.0 * x_P.size).astype(np.int64)
    sampled: FloatArray = x_P[places]
    return sampled
