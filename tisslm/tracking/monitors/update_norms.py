"""The monitor ``update_norms``: how far an update moves each parameter.

The ratio for all parameters together is a metric of the step (``tisslm.optim.update_norm``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np

from tisslm import ops
from tisslm.contracts import Monitor
from tisslm.contracts.batch import FloatArray

__all__ = ["UpdateNorms"]


@final
class UpdateNorms(Monitor):
    """Measure ``||dp||_2`` and ``||p||_2`` of each parameter p and its update dp.

    ``update_norm/<parameter>`` and ``weight_norm/<parameter>`` are the norms,
    ``update_ratio/<parameter>`` their quotient, left out where the parameter is zero. The
    parameter is that after the update.
    """

    wants: ClassVar[frozenset[str]] = frozenset({"updates", "weights"})

    def __init__(self) -> None:
        self._updates: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._norms = self._updates

    def turn_to(self, kind: str) -> None:
        """Take what follows for updates, or for weights."""
        self._norms = self._weights if kind == "weights" else self._updates

    def observe(self, site: str, array: FloatArray) -> None:
        """Measure an update or a parameter.

        Parameters
        ----------
        site : str
            Name of the parameter.
        array : ndarray of any shape
            The array is only read.
        """
        self._norms[site] = ops.global_norm(np.ascontiguousarray(array).reshape(-1))

    def metrics(self) -> Mapping[str, object]:
        """Return the norms observed since the last call."""
        found: dict[str, object] = {}
        for site, update in self._updates.items():
            found[f"update_norm/{site}"] = update
            if self._weights.get(site, 0.0) != 0.0:
                found[f"update_ratio/{site}"] = update / self._weights[site]
        found |= {f"weight_norm/{site}": norm for site, norm in self._weights.items()}
        self._updates, self._weights = {}, {}
        self._norms = self._updates
        return found
