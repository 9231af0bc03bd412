"""Losses of cut vectors (Matryoshka), for all losses of vectors alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tisslm.contracts import EmbeddingLoss, PooledBatch
from tisslm.errors import ConfigError
from tisslm.optim.losses import Contrastive, CosineSimilarity, Triplet

LOSSES: list[tuple[type[EmbeddingLoss], int, dict[str, Any]]] = [
    (Contrastive, 3, {"symmetric": True}),
    (Contrastive, 2, {"similarity": "dot", "temperature": 1.0}),
    (Triplet, 3, {"distance": "cosine"}),
    (Triplet, 3, {"distance": "euclidean", "margin": 1.5}),
    (CosineSimilarity, 2, {}),
]
every_loss = pytest.mark.parametrize(("cls", "k", "options"), LOSSES)


def drawn(k: int, n: int = 6, size: int = 8) -> PooledBatch:
    rng = np.random.default_rng(k)
    vectors = rng.standard_normal((k, n, size))
    return PooledBatch(vectors, np.arange(k * n).reshape(k, n), rng.random(n))


@every_loss
@pytest.mark.parametrize("dimensions", [[3, 5], [3, 5, 8]])
def test_loss_is_the_sum_over_the_cut_vectors(
    cls: type[EmbeddingLoss], k: int, options: dict[str, Any], dimensions: list[int]
) -> None:
    pooled = drawn(k)
    weights = [0.5, 2.0, 0.25][: len(dimensions)]
    value = cls(**options, dimensions=dimensions, weights=weights).value(pooled)
    expected, gradient = 0.0, np.zeros_like(pooled.embeddings_KNE)
    for cut, weight in zip(dimensions, weights, strict=True):
        x = pooled.embeddings_KNE[..., :cut]
        length = np.linalg.norm(x, axis=-1, keepdims=True)
        u = x / length
        one = cls(**options).value(PooledBatch(u, pooled.text_ids_KN, pooled.score_N))
        d = one.d_embeddings_KNE
        assert d is not None
        expected += weight * one.loss
        gradient[..., :cut] += weight * (d - u * (u * d).sum(axis=-1, keepdims=True)) / length
    assert value.loss == pytest.approx(expected, rel=1e-12)
    assert np.abs(value.d_embeddings_KNE - gradient).max() < 1e-12
    assert value.d_embeddings_KNE.flags.c_contiguous
    plain = cls(**options, dimensions=dimensions).value(pooled, gradient=False)
    ones = cls(**options, dimensions=dimensions, weights=[1] * len(dimensions)).value(pooled)
    assert plain.loss == ones.loss
    assert plain.d_embeddings_KNE is None


@every_loss
def test_vectors_that_are_given_stay(
    cls: type[EmbeddingLoss], k: int, options: dict[str, Any]
) -> None:
    pooled = drawn(k)
    before = pooled.embeddings_KNE.copy()
    for more in ({}, {"dimensions": [8]}, {"dimensions": [2]}):
        value = cls(**options, **more).value(pooled)
        assert not np.shares_memory(value.d_embeddings_KNE, pooled.embeddings_KNE)
        assert np.array_equal(pooled.embeddings_KNE, before)


@every_loss
def test_a_vector_without_a_direction_has_no_gradient(
    cls: type[EmbeddingLoss], k: int, options: dict[str, Any]
) -> None:
    pooled = drawn(k)
    pooled.embeddings_KNE[:, 2] = 0.0
    pooled.embeddings_KNE[0, 3] = 1e-14
    value = cls(**options, dimensions=[4, 8]).value(pooled)
    assert not value.d_embeddings_KNE[:, 2].any()
    assert not value.d_embeddings_KNE[0, 3].any()
    assert np.isfinite(value.d_embeddings_KNE).all()


@every_loss
def test_dimensions_that_do_not_fit_are_refused_in_a_sentence(
    cls: type[EmbeddingLoss], k: int, options: dict[str, Any]
) -> None:
    for wrong in ([4, 2], [2, 2], [], "48", 8):
        with pytest.raises(ConfigError, match=r"dimensions: expected ascending numbers such as"):
            cls(**options, dimensions=wrong)
    with pytest.raises(ConfigError, match=r"dimensions: expected an integer >= 1, got 0"):
        cls(**options, dimensions=[0, 2])
    for weights in ([1.0], 1.0, "1"):
        with pytest.raises(ConfigError, match=r"weights: expected a number for each of dimensions"):
            cls(**options, dimensions=[2, 4], weights=weights)
    with pytest.raises(ConfigError, match=r"weights: expected a number for each of dimensions"):
        cls(**options, weights=[1.0])
    with pytest.raises(ConfigError, match=r"weights: expected a finite number >= 0, got -1"):
        cls(**options, dimensions=[2], weights=[-1.0])
    with pytest.raises(ConfigError, match=r"expected at most the 8 numbers of the model's vectors"):
        cls(**options, dimensions=[4, 9]).value(drawn(k))
