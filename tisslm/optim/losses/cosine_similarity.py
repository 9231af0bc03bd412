"""Cosine similarity: regression of the cosine of two texts on the score that people gave them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import EmbeddingLoss, PooledBatch, PooledValue
from tisslm.contracts.options import flag
from tisslm.errors import DataError, ShapeError
from tisslm.optim.losses._cuts import Cuts, check_texts, tiles

__all__ = ["CosineSimilarity"]

Array = NDArray[Any]

_WHERE = "loss cosine_similarity"


@final
class CosineSimilarity(EmbeddingLoss):
    """``loss = 1/N sum_i (c_i - score_i)^2`` with ``c = x . y / (|x| |y|)``.

    ``dc/dx = (y / |y| - c x / |x|) / |x|``, and likewise by y. A vector shorter than 1e-12 has no
    direction: its cosine is 0, and so is its gradient.

    Parameters
    ----------
    signed : bool
        Whether scores lie in [-1, 1], where -1 is the opposite, in place of [0, 1].
    dimensions, weights : sequence, optional
        Matryoshka, as in ``Contrastive``: lengths that vectors are cut to, and what each counts.

    Raises
    ------
    ConfigError
        If an option is out of range.

    References
    ----------
    Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", arXiv
    1908.10084.
    """

    needs_score: ClassVar[bool] = True

    n_texts = range(2, 3)

    #: Sets of options that the checks build it with.
    test_options: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {},
        {"signed": True},
        {"dimensions": [3, 4]},
    )

    def __init__(
        self,
        *,
        signed: bool = False,
        dimensions: list[int] | None = None,
        weights: list[float] | None = None,
    ) -> None:
        self.signed = flag(f"{_WHERE}: signed", signed)
        self._cuts = Cuts(_WHERE, dimensions, weights)
        self.least_size = self._cuts.longest

    def value(self, pooled: PooledBatch, *, gradient: bool = True) -> PooledValue:
        """Compute the mean loss over the examples and, if asked for, the gradient.

        Raises
        ------
        ShapeError
            If the arrays do not fit each other.
        ConfigError
            If an example has not two texts, or vectors are shorter than ``dimensions`` ask for.
        DataError
            If there are no scores, or one is out of range.
        """
        check_texts(_WHERE, pooled, self.n_texts)
        score_N = self._scores(pooled)

        def at(x_KND: Array, d_KND: Array | None) -> tuple[float, float]:
            _, n, size = x_KND.shape
            total = 0.0
            for rows in tiles(n, 2 * size):
                x, y = x_KND[:, rows].astype(np.float64)
                off = (x * y).sum(axis=1) - score_N[rows]
                total += float((off * off).sum())
                if d_KND is not None:
                    slope = (2.0 / n * off)[:, None]
                    d_KND[0, rows], d_KND[1, rows] = slope * y, slope * x
            return total / n, 0.0

        return self._cuts.value(pooled, at, unit=True, gradient=gradient)

    def _scores(self, pooled: PooledBatch) -> Array:
        n = pooled.embeddings_KNE.shape[1]
        if pooled.score_N is None:
            raise DataError(
                f"{_WHERE}: expected a score with each pair of texts, got none; name the column "
                "that has it, or choose another loss"
            )
        score_N = np.asarray(pooled.score_N, np.float64)
        if score_N.shape != (n,):
            raise ShapeError(f"{_WHERE}: expected {n} scores, got an array {score_N.shape}")
        low = -1.0 if self.signed else 0.0
        outside = np.flatnonzero(~((score_N >= low) & (score_N <= 1.0)))
        if len(outside):
            hint = "scale the scores" + ("" if self.signed else ", or set signed = true")
            raise DataError(
                f"{_WHERE}: expected scores from {low:g} to 1, got {score_N[outside[0]]:g} in "
                f"example {outside[0]} of the update; {hint}"
            )
        return score_N
