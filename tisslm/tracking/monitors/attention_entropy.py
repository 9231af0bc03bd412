"""The monitor ``attention_entropy``: how widely attention looks.

The entropy of a query is computed by a kernel (``ops.attention_entropy``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np

from tisslm.contracts import Monitor
from tisslm.contracts.batch import FloatArray

__all__ = ["AttentionEntropy"]

#: What the site of a place ends with.
ENDING = ".entropy"


@final
class AttentionEntropy(Monitor):
    """Average the entropy of attention over the queries of a step, in nats.

    ``attention/<place>/entropy`` is the mean over heads and queries, ``entropy_min`` that of the
    head with the least: near 0, a head looks at one token only. A query that sees n keys has at
    most ``log n``. Sums are in double precision; an entropy that is not a number makes both so.

    References
    ----------
    Zhai et al., "Stabilizing Transformer Training by Preventing Attention Entropy Collapse",
    arXiv 2303.06296.
    """

    wants: ClassVar[frozenset[str]] = frozenset({"attention"})

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, FloatArray]] = {}

    def observe(self, site: str, array: FloatArray) -> None:
        """Add the entropies of a micro-batch.

        Parameters
        ----------
        site : str
            ``<place>.entropy``.
        array : ndarray of shape (B, H, T)
            The array is only read; other shapes are taken for those of one head.
        """
        of_heads = array if array.ndim == 3 else array.reshape(-1, 1, 1)
        batch, _, time = of_heads.shape
        count, total = self._sums.get(site, (0, np.zeros(1)))
        total = total + of_heads.sum(axis=(0, 2), dtype=np.float64)
        self._sums[site] = (count + batch * time, total)

    def metrics(self) -> Mapping[str, object]:
        """Return the means of what was observed since the last call."""
        found: dict[str, object] = {}
        for site, (count, total_H) in self._sums.items():
            place = site.removesuffix(ENDING)
            if count:
                found[f"attention/{place}/entropy"] = float(total_H.mean()) / count
                found[f"attention/{place}/entropy_min"] = float(total_H.min()) / count
        self._sums = {}
        return found
