"""Losses of vectors against those of sentence-transformers: value and gradient on equal vectors.

Needs sentence-transformers and PyTorch: ``pip install tisslm[test-embeddings]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tisslm.contracts import EmbeddingLoss, PooledBatch
from tisslm.optim.losses import Contrastive, CosineSimilarity, Triplet

NEEDS = "needs pip install tisslm[test-embeddings]"
torch = pytest.importorskip("torch", reason=NEEDS)
pytest.importorskip("sentence_transformers", reason=NEEDS)
losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
util = pytest.importorskip("sentence_transformers.util")

#: Value, and gradient relative to its largest element: float32 on both sides.
BOUND = 1e-5
N, E = 40, 24

BOTH_WAYS = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
Metric = losses.TripletDistanceMetric
CUTS = [8, 16, 24]


def ranking(**options: Any) -> Callable[[Any], Any]:
    return lambda model: losses.MultipleNegativesRankingLoss(model, **options)


def triplet(**options: Any) -> Callable[[Any], Any]:
    return lambda model: losses.TripletLoss(model, **options)


def cut(inner: Callable[[Any], Any], weights: list[float]) -> Callable[[Any], Any]:
    return lambda model: losses.MatryoshkaLoss(model, inner(model), CUTS, weights)


CASES: dict[str, tuple[EmbeddingLoss, int, Callable[[Any], Any]]] = {
    "pairs": (Contrastive(), 2, ranking()),
    "hard negatives": (Contrastive(temperature=0.1), 4, ranking(scale=10.0)),
    "symmetric": (Contrastive(symmetric=True), 2, ranking(**BOTH_WAYS)),
    "symmetric, hard negatives": (Contrastive(symmetric=True), 3, ranking(**BOTH_WAYS)),
    "dot products": (
        Contrastive(similarity="dot", temperature=2.0),
        3,
        ranking(scale=0.5, similarity_fct=util.dot_score),
    ),
    "cut": (
        Contrastive(dimensions=CUTS, weights=[0.25, 0.5, 1.0]),
        3,
        cut(ranking(), [0.25, 0.5, 1.0]),
    ),
    "triplet": (Triplet(margin=0.3), 3, triplet(distance_metric=Metric.COSINE, triplet_margin=0.3)),
    "euclidean": (Triplet(distance="euclidean", margin=5.0), 3, triplet()),
    "cut triplet": (
        Triplet(distance="euclidean", margin=0.4, dimensions=CUTS),
        3,
        cut(triplet(triplet_margin=0.4), [1.0, 1.0, 1.0]),
    ),
    "scores": (CosineSimilarity(), 2, losses.CosineSimilarityLoss),
    "cut scores": (
        CosineSimilarity(dimensions=CUTS, weights=[3.0, 2.0, 1.0]),
        2,
        cut(losses.CosineSimilarityLoss, [3.0, 2.0, 1.0]),
    ),
}


class Given(torch.nn.Module):  # type: ignore[misc,name-defined]
    """A model whose vectors of a column of texts are those that its features say."""

    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device("cpu")

    def forward(self, features: dict[str, Any], **_: object) -> dict[str, Any]:
        return {"sentence_embedding": features["vectors"]}

    def get_embedding_dimension(self) -> int:
        return E


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient(case: str) -> None:
    ours, k, make = CASES[case]
    rng = np.random.default_rng(k)
    vectors = rng.standard_normal((k, N, E)).astype(np.float32)
    vectors[1] += vectors[0]
    scores = rng.random(N, dtype=np.float32)
    value = ours.value(PooledBatch(vectors, np.arange(k * N).reshape(k, N), scores))
    columns = [torch.from_numpy(column.copy()).requires_grad_() for column in vectors]
    features = [{"vectors": c, "input_ids": torch.zeros(N, 1).long()} for c in columns]
    theirs = make(Given())(features, torch.from_numpy(scores))
    theirs.backward()
    gradient = np.stack([column.grad.numpy() for column in columns])
    assert value.loss == pytest.approx(float(theirs.detach()), rel=BOUND)
    assert np.abs(value.d_embeddings_KNE - gradient).max() <= BOUND * np.abs(gradient).max()
