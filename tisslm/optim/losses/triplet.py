"""Triplet: an anchor is to be nearer to its positive than to its negative, by a margin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import EmbeddingLoss, PooledBatch, PooledValue
from tisslm.contracts.options import word
from tisslm.errors import ConfigError
from tisslm.optim.losses._cuts import Cuts, check_texts, tiles

__all__ = ["Triplet"]

Array = NDArray[Any]

_WHERE = "loss triplet"


@final
class Triplet(EmbeddingLoss):
    """``loss = 1/N sum_i max(0, d(a_i, p_i) - d(a_i, n_i) + margin)``.

    ``d(x, y)`` is ``|x - y|``, whose gradient by x is ``(x - y) / |x - y|`` and 0 where x = y; or
    ``1 - x . y / (|x| |y|)``.

    Parameters
    ----------
    margin : float
        How much further away the negative is to be, above 0. Cosine distances are at most 2 apart,
        and so are those of unit vectors.
    distance : {"cosine", "euclidean"}
        With "cosine", a vector shorter than 1e-12 has no direction: it is at the distance 1 from
        all, and has no gradient.
    dimensions, weights : sequence, optional
        Matryoshka, as in ``Contrastive``: lengths that vectors are cut to, and what each counts.

    Raises
    ------
    ConfigError
        If an option is out of range.

    References
    ----------
    Schroff et al., "FaceNet: A Unified Embedding for Face Recognition and Clustering", arXiv
    1503.03832. Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification",
    arXiv 1703.07737.
    """

    n_texts = range(3, 4)

    #: Sets of options that the checks build it with.
    test_options: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {},
        {"distance": "euclidean", "margin": 5.0},
        {"distance": "euclidean", "dimensions": [3, 4], "weights": [2.0, 1.0]},
    )

    def __init__(
        self,
        *,
        margin: float = 0.5,
        distance: str = "cosine",
        dimensions: list[int] | None = None,
        weights: list[float] | None = None,
    ) -> None:
        self.distance = word(f"{_WHERE}: distance", distance, ("cosine", "euclidean"))
        self.margin = _margin(margin, 2.0 if distance == "cosine" else math.inf)
        self._cuts = Cuts(_WHERE, dimensions, weights)
        self.least_size = self._cuts.longest

    def value(self, pooled: PooledBatch, *, gradient: bool = True) -> PooledValue:
        """Compute the mean loss over the examples and, if asked for, the gradient.

        Raises
        ------
        ShapeError
            If the arrays do not fit each other.
        ConfigError
            If an example has not three texts, or vectors are shorter than ``dimensions`` ask for.
        """
        check_texts(_WHERE, pooled, self.n_texts)
        unit = self.distance == "cosine"
        return self._cuts.value(pooled, self._at, unit=unit, gradient=gradient)

    def _at(self, x_KND: Array, d_KND: Array | None) -> tuple[float, float]:
        _, n, size = x_KND.shape
        between = _cosine if self.distance == "cosine" else _euclidean
        total = 0.0
        for rows in tiles(n, 3 * size):
            anchor, positive, negative = x_KND[:, rows].astype(np.float64)
            near, by_anchor, by_positive = between(anchor, positive)
            far, from_anchor, by_negative = between(anchor, negative)
            short = near - far + self.margin
            total += float(np.maximum(short, 0.0).sum())
            if d_KND is not None:
                share = np.where(short > 0, 1.0 / n, 0.0 * short)[:, None]  # a NaN stays one
                d_KND[0, rows] = share * (by_anchor - from_anchor)
                d_KND[1, rows] = share * by_positive
                d_KND[2, rows] = -share * by_negative
        return total / n, 0.0


def _euclidean(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return the distance of each pair of rows, and its gradients by both."""
    apart = x - y
    distance_N = np.sqrt((apart * apart).sum(axis=1))
    by_x = apart / np.where(distance_N == 0, 1.0, distance_N)[:, None]
    return distance_N, by_x, -by_x


def _cosine(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return ``1 - x . y`` of each pair of rows, and its gradients by both."""
    return 1.0 - (x * y).sum(axis=1), -y, -x


def _margin(margin: object, most: float) -> float:
    if isinstance(margin, int | float) and not isinstance(margin, bool):
        given = float(margin)
        if 0.0 < given <= most and given < math.inf:
            return given
    within = "above 0" if most == math.inf else f"above 0 and at most {most:g}"
    raise ConfigError(f"{_WHERE}: margin: expected a number {within}, got {margin!r:.200}")
