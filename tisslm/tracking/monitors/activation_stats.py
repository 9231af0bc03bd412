"""The monitor ``activation_stats``: mean, spread, size, zeros and saturation of activations.

Which activations there are is known to ``tisslm.tracking.pass_arrays``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np

from tisslm import ops
from tisslm.contracts import Monitor
from tisslm.contracts.batch import FloatArray
from tisslm.contracts.options import flag
from tisslm.errors import ConfigError

__all__ = ["ActivationStats"]


@final
class ActivationStats(Monitor):
    """Measure the activations x of each site over all micro-batches of a step.

    ``activation/<site>/mean`` is ``sum x / n``, ``std`` is ``sqrt(sum x^2 / n - mean^2)``,
    ``absmax`` is ``max |x|`` and ``frac_zero`` the share of exact zeros. ``frac_saturated`` is the
    share of a pre-activation (``<mlp>.pre``; of a gated MLP, the gate's) below ``flat``, where GELU
    is flat and passes hardly any gradient on; elsewhere, the share of numbers with ``|x| > large``,
    which is half of the range of fp16 by default. Sums are in double precision. A mean, a spread or
    an absmax of numbers that are not all finite is not finite.

    Parameters
    ----------
    inside : bool, default True
        Whether sites within a part (``.q``, ``.heads``, ``.pre``, ...) are measured, or only what
        parts leave in the residual stream.
    flat : float, default -3.0
        GELU(-3) is -0.004, and its slope -0.012.
    large : float, default 32768.0
    """

    wants: ClassVar[frozenset[str]] = frozenset({"activations"})
    test_options = ({"inside": False}, {"flat": -1.0, "large": 2.0})

    def __init__(self, *, inside: bool = True, flat: float = -3.0, large: float = 32768.0) -> None:
        self.inside = flag("activation_stats: inside", inside)
        if not (_is_number(flat) and flat < 0.0):
            raise ConfigError(f"activation_stats: flat: expected a number below 0, got {flat!r}")
        if not (_is_number(large) and large > 0.0):
            raise ConfigError(f"activation_stats: large: expected a number above 0, got {large!r}")
        self.flat, self.large = float(flat), float(large)
        self._sums: dict[str, _Sums] = {}

    def observe(self, site: str, array: FloatArray) -> None:
        """Add some rows of a site.

        Parameters
        ----------
        site : str
        array : ndarray of any shape, float32 or float64
            The array is only read.
        """
        inner = site.rpartition(".")[2]
        if not self.inside and inner in ("q", "k", "v", "heads", "pre", "up"):
            return
        low, high = (self.flat, math.inf) if inner == "pre" else (-self.large, self.large)
        x_P = np.ascontiguousarray(array).reshape(-1)
        if x_P.size:
            self._sums.setdefault(site, _Sums()).add(x_P, low, high)

    def metrics(self) -> Mapping[str, object]:
        """Return the statistics of what was observed since the last call."""
        found = {
            f"activation/{site}/{name}": value
            for site, sums in self._sums.items()
            for name, value in sums.statistics().items()
        }
        self._sums = {}
        return found


class _Sums:
    """Sums over the elements that were added so far."""

    def __init__(self) -> None:
        self._count = 0
        self._totals = np.zeros(5)

    def add(self, x_P: FloatArray, low: float, high: float) -> None:
        partial_K5 = np.empty((-(-x_P.size // ops.NORM_BLOCK), 5))
        ops.summarize(x_P, low, high, partial_K5)
        largest = np.maximum(self._totals[2], partial_K5[:, 2].max())  # NaN if either is
        with np.errstate(over="ignore", invalid="ignore"):
            self._totals += partial_K5.sum(axis=0)
        self._totals[2] = largest
        self._count += x_P.size

    def statistics(self) -> dict[str, float]:
        n = self._count
        total, squares, largest, zeros, outside = (float(value) for value in self._totals)
        mean = total / n
        variance = squares / n - mean * mean
        return {
            "mean": mean,
            "std": math.sqrt(variance) if variance > 0.0 else 0.0 * variance,
            "absmax": largest,
            "frac_zero": zeros / n,
            "frac_saturated": outside / n,
        }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
