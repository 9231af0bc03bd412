"""How well vectors of texts find, order and tell apart: pure functions of arrays.

Nothing here embeds a text. Similarities are cosines unless dot products are asked for; a vector
without a length is similar to nothing (0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.errors import DataError, ShapeError

__all__ = ["DEPTHS", "pair_similarity", "pearson", "retrieval", "spearman", "triplet_accuracy"]

Array = NDArray[Any]

#: The k of recall and accuracy; the reciprocal rank and the gain look as far as the last.
DEPTHS = (1, 5, 10)

#: Similarities that are held at a time: of as many queries as this many numbers have room for.
_TILE = 1 << 21

#: The share of the gain that each place of the first ten gives.
_DISCOUNTS = 1.0 / np.log2(np.arange(2, DEPTHS[-1] + 2))


def retrieval(
    queries_QE: Array,
    documents_DE: Array,
    relevant: Array | Sequence[Array],
    *,
    similarity: Literal["cosine", "dot"] = "cosine",
) -> Mapping[str, float]:
    """Measure how near the top of all documents each query's relevant ones stand.

    A document that is not relevant and exactly as similar as a relevant one stands before it, so
    vectors that are all the same find nothing; so does one whose similarity is no number.

    Parameters
    ----------
    queries_QE, documents_DE : ndarray of shape (Q, E) and (D, E), float32 or float64
    relevant : integer ndarray of shape (Q,), or a sequence of Q integer arrays
        The numbers of the relevant documents of each query: one each, or any, at least one.
    similarity : {"cosine", "dot"}

    Returns
    -------
    mapping of str to float
        Means over queries. ``accuracy_at_k``: whether a relevant document is among the first k.
        ``recall_at_k``: the share of the relevant ones that are. ``mrr_at_10``: one over the place
        of the first relevant one, 0 beyond the tenth. ``ndcg_at_10``: the sum of ``1 / log2(place
        + 1)`` over the relevant ones among ten, over that of the best order.

    Raises
    ------
    ShapeError
        If the arrays do not fit each other.
    DataError
        If a query has no relevant document, or one that is not there.

    References
    ----------
    Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", chapter 8. Jaervelin
    and Kekaelaeinen, "Cumulated Gain-Based Evaluation of IR Techniques", TOIS 20(4), 2002.
    """
    queries_QE, documents_DE = _vectors(queries_QE, documents_DE, similarity)
    wanted = _relevant(relevant, len(queries_QE), len(documents_DE))
    rows = max(1, _TILE // len(documents_DE))
    sums = dict.fromkeys(_names(), 0.0)
    for start in range(0, len(queries_QE), rows):
        tile_RE = queries_QE[start : start + rows]
        scores_RD = np.empty((len(tile_RE), len(documents_DE)), tile_RE.dtype)
        ops.linear_forward(tile_RE, documents_DE, None, scores_RD)
        for row, numbers in zip(scores_RD, wanted[start : start + rows], strict=True):
            for name, value in zip(sums, _of_query(row, numbers), strict=True):
                sums[name] += value
    return MappingProxyType({name: total / len(queries_QE) for name, total in sums.items()})


def spearman(a_N: Array, b_N: Array) -> float:
    """Correlate the ranks of two series, from -1 to 1; equal values share their mean rank.

    0 where either is constant: nothing is ordered then.

    References
    ----------
    Spearman, "The Proof and Measurement of Association between Two Things", 1904.
    """
    return pearson(_mean_ranks(np.asarray(a_N)), _mean_ranks(np.asarray(b_N)))


def pearson(a_N: Array, b_N: Array) -> float:
    """Correlate two series linearly, from -1 to 1; 0 where either is constant.

    Raises
    ------
    ShapeError
        If they are not two series of the same length, at least 2.
    """
    a, b = np.asarray(a_N, np.float64), np.asarray(b_N, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ShapeError(
            "correlation: expected two series of one length, at least 2, got shapes "
            f"{a.shape} and {b.shape}"
        )
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()  # squares neither overflow nor vanish
    return float(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1.0, 1.0))


def pair_similarity(a_NE: Array, b_NE: Array) -> Array:
    """Return the cosine of each pair of rows, float64 of shape (N,).

    Raises
    ------
    ShapeError
        If the arrays differ in shape.
    """
    if a_NE.ndim != 2 or a_NE.shape != b_NE.shape:
        raise ShapeError(
            f"pair_similarity: expected two arrays (N, E), got {a_NE.shape} and {b_NE.shape}"
        )
    a, b = _unit(a_NE.astype(np.float64)), _unit(b_NE.astype(np.float64))
    cosine_N: Array = (a * b).sum(axis=1)
    return cosine_N


def triplet_accuracy(anchors_NE: Array, positives_NE: Array, negatives_NE: Array) -> float:
    """Return the share of anchors that are nearer, by the cosine, to their positive.

    An anchor that is exactly as near to its negative counts as a miss.
    """
    near = pair_similarity(anchors_NE, positives_NE)
    return float((near > pair_similarity(anchors_NE, negatives_NE)).mean())


def _names() -> list[str]:
    at_depths = [f"{name}_at_{k}" for name in ("accuracy", "recall") for k in DEPTHS]
    return [*at_depths, f"mrr_at_{DEPTHS[-1]}", f"ndcg_at_{DEPTHS[-1]}"]


def _of_query(scores_D: Array, relevant: Array) -> list[float]:
    """Return the measures of one query, in the order of ``_names``."""
    own = np.sort(scores_D[relevant])[::-1]
    places: list[int] = []
    for j, score in enumerate(own):
        ahead = len(scores_D) - int(
            np.count_nonzero(scores_D < score)
        )  # itself and what is no number
        others = ahead - (len(own) - int(np.count_nonzero(own < score)))
        places.append(others + j)  # from 0
        if places[-1] >= DEPTHS[-1]:
            break
    found = [sum(int(place < k) for place in places) for k in DEPTHS]
    gain = sum(_DISCOUNTS[place] for place in places if place < DEPTHS[-1])
    return [
        *(float(n > 0) for n in found),
        *(float(n / len(own)) for n in found),
        1.0 / (places[0] + 1) if found[-1] else 0.0,
        float(gain / _DISCOUNTS[: len(own)].sum()),
    ]


def _vectors(queries_QE: Array, documents_DE: Array, similarity: str) -> tuple[Array, Array]:
    arrays = (queries_QE, documents_DE)
    fits = all(x.ndim == 2 and x.size and x.dtype in (np.float32, np.float64) for x in arrays)
    if not fits or queries_QE.shape[1] != documents_DE.shape[1]:
        raise ShapeError(
            "retrieval: expected queries (Q, E) and documents (D, E), float32 or float64, got "
            f"{queries_QE.shape} {queries_QE.dtype} and {documents_DE.shape} {documents_DE.dtype}"
        )
    dtype = np.result_type(*arrays)
    queries_QE, documents_DE = (np.ascontiguousarray(x, dtype=dtype) for x in arrays)
    if similarity == "cosine":
        queries_QE, documents_DE = _unit(queries_QE), _unit(documents_DE)
    return queries_QE, documents_DE


def _unit(x_NE: Array) -> Array:
    length_N = np.sqrt(np.einsum("ne,ne->n", x_NE, x_NE, dtype=np.float64))
    length_N[length_N == 0] = np.inf
    unit_NE: Array = np.divide(x_NE, length_N[:, None], dtype=x_NE.dtype, casting="same_kind")
    return unit_NE


def _relevant(relevant: Array | Sequence[Array], n_queries: int, n_documents: int) -> list[Array]:
    if len(relevant) != n_queries:
        raise ShapeError(
            f"retrieval: expected relevant documents for {n_queries} queries, got {len(relevant)}"
        )
    wanted = [np.unique(np.atleast_1d(numbers)) for numbers in relevant]
    for query, numbers in enumerate(wanted):
        if not len(numbers):
            raise DataError(
                f"retrieval: query {query} has no relevant document; leave it out, or name one"
            )
        if numbers[0] < 0 or numbers[-1] >= n_documents:
            raise DataError(
                f"retrieval: query {query}: expected numbers of documents from 0 below "
                f"{n_documents}, got {numbers[0]} to {numbers[-1]}"
            )
    return wanted


def _mean_ranks(x_N: Array) -> Array:
    _, place, count = np.unique(x_N, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks_N: Array = (last - 0.5 * (count - 1))[place]
    return ranks_N
