"""Measures of embeddings, held against plain definitions that sort and loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tisslm.errors import DataError, ShapeError
from tisslm.tracking import embedding_measures
from tisslm.tracking.embedding_measures import (
    DEPTHS,
    pair_similarity,
    pearson,
    retrieval,
    spearman,
    triplet_accuracy,
)

Array = NDArray[Any]


def plain(scores_QD: Array, relevant: list[set[int]]) -> dict[str, float]:
    """Measure retrieval by sorting every query's documents, the irrelevant of equals first."""
    found: dict[str, list[float]] = {}
    for scores, wanted in zip(scores_QD, relevant, strict=True):
        order = sorted(range(len(scores)), key=lambda d: (-scores[d], d in wanted))
        hits = [d in wanted for d in order]
        one = {f"accuracy_at_{k}": float(any(hits[:k])) for k in DEPTHS}
        one |= {f"recall_at_{k}": sum(hits[:k]) / len(wanted) for k in DEPTHS}
        one["mrr_at_10"] = next((1 / (i + 1) for i, hit in enumerate(hits[:10]) if hit), 0.0)
        gain = sum(hit / math.log2(i + 2) for i, hit in enumerate(hits[:10]))
        best = sum(1 / math.log2(i + 2) for i in range(min(10, len(wanted))))
        one["ndcg_at_10"] = gain / best
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


@st.composite
def searches(draw: st.DrawFn) -> tuple[Array, Array, list[set[int]]]:
    """Draw queries and documents of small integers, which tie often and multiply exactly."""
    n_queries, n_documents = draw(st.integers(1, 5)), draw(st.integers(1, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    queries = rng.integers(-2, 3, (n_queries, 3)).astype(np.float32)
    documents = rng.integers(-2, 3, (n_documents, 3)).astype(np.float32)
    sizes = rng.integers(1, min(n_documents, 13) + 1, n_queries)
    relevant = [set(rng.choice(n_documents, k, replace=False).tolist()) for k in sizes]
    return queries, documents, relevant


@settings(max_examples=80, deadline=None)
@given(search=searches(), tile=st.integers(1, 60))
def test_retrieval_is_that_of_the_plain_definition(
    search: tuple[Array, Array, list[set[int]]], tile: int
) -> None:
    queries, documents, relevant = search
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding_measures, "_TILE", tile)
        given_as = [np.array(sorted(one)) for one in relevant]
        got = retrieval(queries, documents, given_as, similarity="dot")
    assert got == pytest.approx(plain(queries @ documents.T, relevant), abs=1e-12)
    assert list(got) == [
        "accuracy_at_1", "accuracy_at_5", "accuracy_at_10", "recall_at_1", "recall_at_5",
        "recall_at_10", "mrr_at_10", "ndcg_at_10",
    ]  # fmt: skip


def test_cosine_looks_at_directions_alone() -> None:
    rng = np.random.default_rng(2)
    queries, documents = rng.standard_normal((20, 8)), rng.standard_normal((40, 8))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, documents)]
    numbers = rng.integers(0, 40, 20)
    got = retrieval(queries * rng.uniform(0.1, 9, (20, 1)), documents, numbers)
    assert got == pytest.approx(plain(unit[0] @ unit[1].T, [{int(n)} for n in numbers]))
    assert got != retrieval(queries, documents * 7.0 ** np.arange(40)[:, None], numbers,
                            similarity="dot")  # fmt: skip


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan])
def test_vectors_that_are_all_the_same_find_nothing(value: float) -> None:
    same = np.full((12, 4), value, np.float32)
    assert set(retrieval(same, same, np.arange(12)).values()) == {0.0}


def test_what_does_not_fit_is_refused_in_a_sentence() -> None:
    x = np.ones((2, 3), np.float32)
    with pytest.raises(DataError, match=r"query 1 has no relevant document; leave it out"):
        retrieval(x, x, [np.array([0]), np.array([], int)])
    with pytest.raises(DataError, match=r"query 0: expected numbers of documents from 0 below 2"):
        retrieval(x, x, np.array([2, 0]))
    with pytest.raises(ShapeError, match=r"relevant documents for 2 queries, got 1"):
        retrieval(x, x, np.array([0]))
    with pytest.raises(ShapeError, match=r"queries \(Q, E\) and documents \(D, E\)"):
        retrieval(x, x[:, :2], np.array([0, 1]))
    with pytest.raises(ShapeError, match="two series of one length"):
        spearman(np.ones(3), np.ones(2))
    with pytest.raises(ShapeError, match=r"two arrays \(N, E\)"):
        triplet_accuracy(x, x[:1], x)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12))
def test_spearman_is_pearson_of_mean_ranks(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(series, float) for series in zip(*pairs, strict=True))
    ranks = [[(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x] for x in (a, b)]
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert spearman(a, b) == 0.0
    else:
        expected = np.corrcoef(*ranks)[0, 1]
        assert spearman(a, b) == pytest.approx(expected, abs=1e-12)
        assert spearman(a * 1e200, b * 1e-200) == pytest.approx(expected, abs=1e-12)
        assert pearson(a * 1e200, b * 1e-200) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)


def test_a_triplet_counts_if_the_positive_is_nearer_and_not_if_equal() -> None:
    anchor = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], np.float32)
    positive = np.array([[5, 1], [0, 1], [1, 1], [1, 0]], np.float32)
    negative = np.array([[1, 1], [2, 1], [2, 2], [0, 1]], np.float32)
    assert triplet_accuracy(anchor, positive, negative) == 0.25
    cosines = [5 / math.sqrt(26), 0, 1 / math.sqrt(2), 0]
    assert pair_similarity(anchor, positive) == pytest.approx(cosines, abs=1e-15)
