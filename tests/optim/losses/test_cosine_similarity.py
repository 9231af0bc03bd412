"""The regression of cosines on scores: its formula, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tisslm.contracts import PooledBatch
from tisslm.errors import ConfigError, DataError, ShapeError
from tisslm.optim.losses import CosineSimilarity, _cuts


def drawn(n: int = 9) -> PooledBatch:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((2, n, 5))
    return PooledBatch(vectors, np.arange(2 * n).reshape(2, n), rng.random(n, dtype=np.float32))


@pytest.mark.parametrize("tile", [1, 30, 1 << 18])
def test_loss_is_the_mean_squared_error(monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    monkeypatch.setattr(_cuts, "_TILE", tile)
    pooled = drawn()
    x, y = pooled.embeddings_KNE
    cosine = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(x, y, strict=True)]
    expected = np.mean((cosine - pooled.score_N) ** 2)
    assert CosineSimilarity().value(pooled).loss == pytest.approx(expected, rel=1e-13)


def test_a_cosine_that_is_its_score_is_pushed_nowhere() -> None:
    pooled = replace(drawn(), score_N=np.ones(9))
    pooled = replace(pooled, embeddings_KNE=pooled.embeddings_KNE[[0, 0]])
    value = CosineSimilarity().value(pooled)
    assert value.loss < 1e-30
    assert np.abs(value.d_embeddings_KNE).max() < 1e-15


def test_scores_below_zero_are_for_signed_ones() -> None:
    pooled = replace(drawn(), score_N=np.linspace(-1, 1, 9))
    assert CosineSimilarity(signed=True).value(pooled).loss > 0
    with pytest.raises(DataError, match=r"from 0 to 1, got -1 in example 0 .* set signed = true"):
        CosineSimilarity().value(pooled)


def test_what_does_not_fit_is_refused_in_a_sentence() -> None:
    pooled, loss = drawn(), CosineSimilarity()
    for wrong in (1.5, -0.25, math.nan):
        scores = np.full(9, 0.5)
        scores[4] = wrong
        with pytest.raises(DataError, match=rf"from 0 to 1, got {wrong} in example 4 of the upd"):
            loss.value(replace(pooled, score_N=scores))
    with pytest.raises(DataError, match=r"from -1 to 1, got 2 in example 0 .*; scale the scores$"):
        CosineSimilarity(signed=True).value(replace(pooled, score_N=np.full(9, 2.0)))
    with pytest.raises(DataError, match=r"expected a score with each pair of texts, got none"):
        loss.value(replace(pooled, score_N=None))
    with pytest.raises(ShapeError, match=r"expected 9 scores, got an array \(3,\)"):
        loss.value(replace(pooled, score_N=np.zeros(3)))
    three = replace(pooled, embeddings_KNE=np.ones((3, 9, 5)), text_ids_KN=np.zeros((3, 9), int))
    with pytest.raises(ConfigError, match=r"expected 2 texts in each example, got 3; choose"):
        loss.value(three)
    with pytest.raises(ConfigError, match=r"signed: expected true or false, got 'yes'"):
        CosineSimilarity(signed="yes")  # type: ignore[arg-type]
