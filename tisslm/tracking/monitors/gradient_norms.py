"""The monitor ``gradient_norms``: the Euclidean norm of each parameter's gradient.

The global norm that clipping uses is computed by the step, always.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np

from tisslm import ops
from tisslm.contracts import Monitor
from tisslm.contracts.batch import FloatArray

__all__ = ["GradientNorms"]


@final
class GradientNorms(Monitor):
    """Measure ``||g||_2 = sqrt(sum_i g_i^2)`` for the gradient g of each parameter.

    The squares are added in float64. ``metrics`` names them ``grad_norm/<parameter>``; before
    clipping, if the gradients are observed before it.
    """

    wants: ClassVar[frozenset[str]] = frozenset({"gradients"})

    def __init__(self) -> None:
        self._norms: dict[str, float] = {}

    def observe(self, site: str, array: FloatArray) -> None:
        """Measure one gradient; the last one counts if a parameter comes twice.

        Parameters
        ----------
        site : str
            Name of the parameter.
        array : ndarray of any shape
            Its gradient; only read.
        """
        self._norms[site] = ops.global_norm(np.ascontiguousarray(array).reshape(-1))

    def metrics(self) -> Mapping[str, object]:
        """Return the norms observed since the last call."""
        found = {f"grad_norm/{site}": norm for site, norm in self._norms.items()}
        self._norms = {}
        return found
