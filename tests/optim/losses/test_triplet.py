"""The triplet loss: its formula, its kinks, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tisslm.contracts import PooledBatch
from tisslm.errors import ConfigError
from tisslm.optim.losses import Triplet, _cuts


def pooled_of(vectors: NDArray[np.float64]) -> PooledBatch:
    return PooledBatch(vectors, np.arange(vectors[..., 0].size).reshape(vectors.shape[:2]))


@pytest.mark.parametrize(("distance", "margin"), [("cosine", 0.3), ("euclidean", 1.5)])
@pytest.mark.parametrize("tile", [1, 30, 1 << 18])
def test_loss_is_that_of_the_formula(
    monkeypatch: pytest.MonkeyPatch, distance: str, margin: float, tile: int
) -> None:
    monkeypatch.setattr(_cuts, "_TILE", tile)
    vectors = np.random.default_rng(1).standard_normal((3, 11, 5))
    losses = []
    for anchor, positive, negative in vectors.transpose(1, 0, 2):
        apart = {
            name: math.dist(anchor, other)
            if distance == "euclidean"
            else 1 - anchor @ other / np.linalg.norm(anchor) / np.linalg.norm(other)
            for name, other in (("near", positive), ("far", negative))
        }
        losses.append(max(0.0, apart["near"] - apart["far"] + margin))
    assert 0 < sum(each == 0 for each in losses) < 11  # both sides of the kink
    value = Triplet(margin=margin, distance=distance).value(pooled_of(vectors))
    assert value.loss == pytest.approx(sum(losses) / 11, rel=1e-13)
    still = [i for i, each in enumerate(losses) if each == 0]
    assert not value.d_embeddings_KNE[:, still].any()
    assert value.d_embeddings_KNE.any(axis=(0, 2)).sum() == 11 - len(still)


def test_equal_texts_are_pushed_nowhere() -> None:
    value = Triplet(distance="euclidean", margin=1.0).value(pooled_of(np.ones((3, 2, 4))))
    assert value.loss == 1.0
    assert not value.d_embeddings_KNE.any()


def test_a_number_that_is_none_is_not_hidden() -> None:
    vectors = np.random.default_rng(2).standard_normal((3, 4, 5))
    vectors[1, 2, 0] = math.nan
    for distance in ("cosine", "euclidean"):
        value = Triplet(distance=distance).value(pooled_of(vectors))
        assert math.isnan(value.loss)
        assert np.isnan(value.d_embeddings_KNE[0, 2]).all()
        assert np.isfinite(value.d_embeddings_KNE[:, :2]).all()


def test_what_does_not_fit_is_refused_in_a_sentence() -> None:
    for wrong in (0, -1.0, 2.5, math.nan, "1", True):
        with pytest.raises(ConfigError, match=r"margin: expected a number above 0 and at most 2"):
            Triplet(margin=wrong)  # type: ignore[arg-type]
    for wrong in (0, math.inf, None):
        with pytest.raises(ConfigError, match=r"triplet: margin: expected a number above 0, got "):
            Triplet(margin=wrong, distance="euclidean")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r'distance: expected "cosine" or "euclidean", got'):
        Triplet(distance="manhattan")
    with pytest.raises(ConfigError, match=r"loss triplet: expected 3 texts in each example, got 2"):
        Triplet().value(pooled_of(np.ones((2, 4, 3))))
