"""Measures of embeddings against the evaluators of sentence-transformers, on the same vectors.

Needs sentence-transformers and PyTorch: ``pip install tisslm[test-embeddings]``.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from tisslm.tracking.embedding_measures import (
    pair_similarity,
    pearson,
    retrieval,
    spearman,
    triplet_accuracy,
)

NEEDS = "needs pip install tisslm[test-embeddings]"
torch = pytest.importorskip("torch", reason=NEEDS)
pytest.importorskip("sentence_transformers", reason=NEEDS)
evaluation = pytest.importorskip("sentence_transformers.sentence_transformer.evaluation")

Array = NDArray[Any]
N, E = 150, 12


class Vectors:
    """What evaluators ask of a model: text ``<name> <i>`` has row i of an array of this name."""

    similarity_fn_name = "cosine"
    model_card_data = Mock()  # evaluators leave their numbers there, too

    def __init__(self, **arrays: Array) -> None:
        self.arrays = arrays

    def encode(self, texts: list[str], *, convert_to_tensor: bool = False, **_: object) -> Any:
        rows = [self.arrays[name][int(i)] for name, _, i in (t.partition(" ") for t in texts)]
        return torch.from_numpy(np.array(rows)) if convert_to_tensor else np.array(rows)

    encode_query = encode_document = encode


def texts(name: str, n: int = N) -> list[str]:
    """Return n texts of an array."""
    return [f"{name} {i}" for i in range(n)]


def drawn(seed: int, n: int = N) -> Array:
    """Draw vectors of different lengths."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, E)) * rng.uniform(0.5, 2.0, (n, 1))
    return vectors.astype(np.float32)


@pytest.mark.parametrize("most", [1, 14])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_retrieval(similarity: str, most: int) -> None:
    rng = np.random.default_rng(3)
    queries, documents = drawn(1), drawn(2, 400)
    documents[:N] += 1.5 * queries
    also = [rng.choice(np.arange(N, 400), rng.integers(0, most), replace=False) for _ in range(N)]
    relevant = [np.append(more, i) for i, more in enumerate(also)]
    evaluator = evaluation.InformationRetrievalEvaluator(
        {f"q{i}": text for i, text in enumerate(texts("a"))},
        {f"d{i}": text for i, text in enumerate(texts("b", 400))},
        {f"q{i}": {f"d{d}" for d in numbers} for i, numbers in enumerate(relevant)},
        accuracy_at_k=[1, 5, 10],
        precision_recall_at_k=[1, 5, 10],
        score_functions={
            "cosine": lambda a, b: (
                torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T
            ),
            "dot": lambda a, b: a @ b.T,
        },
    )
    theirs = evaluator.compute_metrices(Vectors(a=queries, b=documents))[similarity]
    ours = retrieval(queries, documents, relevant, similarity=similarity)  # type: ignore[arg-type]
    for name, value in ours.items():
        measure, _, k = name.rpartition("_at_")
        assert value == pytest.approx(theirs[f"{measure}@k"][int(k)], abs=1e-12), name


def test_spearman_of_cosines() -> None:
    a, b = drawn(4), drawn(5)
    scores = np.round(np.random.default_rng(6).uniform(0, 1, N), 1)  # with ties
    b += scores[:, None].astype(np.float32) * a
    evaluator = evaluation.EmbeddingSimilarityEvaluator(texts("a"), texts("b"), scores.tolist())
    theirs = evaluator(Vectors(a=a, b=b))
    cosines = pair_similarity(a, b)
    # Theirs are rounded to float32 before they are ranked.
    assert spearman(cosines, scores) == pytest.approx(theirs["spearman_cosine"], abs=1e-5)
    assert pearson(cosines, scores) == pytest.approx(theirs["pearson_cosine"], abs=1e-6)


def test_triplets() -> None:
    a, b, c = drawn(7), drawn(8), drawn(9)
    b += 0.3 * a
    evaluator = evaluation.TripletEvaluator(texts("a"), texts("b"), texts("c"))
    theirs = evaluator(Vectors(a=a, b=b, c=c))
    assert triplet_accuracy(a, b, c) == pytest.approx(
        theirs["cosine_accuracy"], abs=1e-7
    )  # float32
