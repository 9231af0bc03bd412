"""The contrastive loss: its formula, texts that are no negatives, the learned scale, memory."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tolerances import FLOAT64_ROUNDING, largest_error

from tisslm import ops
from tisslm.contracts import PooledBatch
from tisslm.errors import ConfigError, ShapeError
from tisslm.optim.losses import Contrastive, contrastive

Array = NDArray[Any]

#: float32 against float64: similarities are rounded by 1e-7, and multiplied by a scale of 20.
BOTH_TYPES = 1e-5


def drawn(k: int = 2, n: int = 7, size: int = 6, *, seed: int = 0, n_texts: int = 0) -> PooledBatch:
    """Vectors of texts that all differ, or of ``n_texts`` that come again and again."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((k, n, size))
    ids = np.arange(k * n).reshape(k, n) + 2**40
    if n_texts:
        ids = rng.integers(0, n_texts, (k, n))
        vectors = rng.standard_normal((n_texts, size))[ids]
    return PooledBatch(vectors, ids)


def plain(pooled: PooledBatch, scale: float, *, symmetric: bool, cosine: bool) -> float:
    """Add up the loss term by term."""
    x, ids = pooled.embeddings_KNE, pooled.text_ids_KN
    if cosine:
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    k, n, _ = x.shape

    def nll(query: Array, right: Array, others: list[Array]) -> float:
        z = [scale * query @ other for other in (right, *others)]
        top = max(z)
        return top - z[0] + math.log(math.fsum(math.exp(each - top) for each in z))

    total = []
    for i in range(n):
        others = [
            x[t, j]
            for t in range(1, k)
            for j in range(n)
            if ids[t, j] != ids[1, i] and (t > 1 or ids[0, j] != ids[0, i])
        ]
        total.append(nll(x[0, i], x[1, i], others))
        if symmetric:
            same = (ids[0] == ids[0, i]) | (ids[1] == ids[1, i])
            total[-1] += nll(x[1, i], x[0, i], list(x[0, ~same]))
    return sum(total) / n / (2 if symmetric else 1)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    k=st.integers(2, 4),
    n=st.integers(2, 9),
    seed=st.integers(0, 2**32),
    n_texts=st.sampled_from([0, 4, 30]),
    symmetric=st.booleans(),
    cosine=st.booleans(),
    tile=st.sampled_from([1, 20, 1 << 20]),
)
def test_loss_is_that_of_the_formula(
    k: int, n: int, seed: int, n_texts: int, symmetric: bool, cosine: bool, tile: int
) -> None:
    pooled = drawn(k, n, seed=seed, n_texts=n_texts)
    similarity = "cosine" if cosine else "dot"
    loss = Contrastive(temperature=0.25, symmetric=symmetric, similarity=similarity)
    whole = loss.value(pooled)
    expected = plain(pooled, 4.0, symmetric=symmetric, cosine=cosine)
    assert whole.loss == pytest.approx(expected, rel=1e-12, abs=1e-14)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrastive, "_TILE", tile)
        cut = loss.value(pooled)
    assert cut.loss == pytest.approx(whole.loss, rel=1e-12, abs=1e-14)
    size = np.abs(whole.d_embeddings_KNE).max() or 1.0
    assert np.abs(cut.d_embeddings_KNE - whole.d_embeddings_KNE).max() <= 1e-12 * size


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradient_of_texts_that_come_twice(symmetric: bool) -> None:
    pooled = drawn(3, 6, n_texts=7, seed=3)
    pooled = replace(pooled, embeddings_KNE=drawn(3, 6, seed=4).embeddings_KNE)
    loss = Contrastive(temperature="learned", symmetric=symmetric)
    given = replace(pooled, log_scale=1.0)
    value, x = loss.value(given), pooled.embeddings_KNE
    found = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        sides = []
        for step in (1e-5, -1e-5):
            moved = x.copy()
            moved[index] += step
            sides.append(loss.value(replace(given, embeddings_KNE=moved), gradient=False).loss)
        found[index] = (sides[0] - sides[1]) / 2e-5
    assert largest_error(value.d_embeddings_KNE, found) < 1e-8
    up, down = (loss.value(replace(pooled, log_scale=1.0 + s)).loss for s in (1e-5, -1e-5))
    assert value.d_log_scale == pytest.approx((up - down) / 2e-5, rel=1e-8)


def test_texts_that_are_all_the_same_leave_nothing_to_learn() -> None:
    pooled = drawn(2, 4, n_texts=1)
    value = Contrastive(symmetric=True).value(pooled)
    assert value.loss == 0.0
    assert not value.d_embeddings_KNE.any()


def test_one_pair_is_compared_with_its_hard_negatives() -> None:
    pooled = drawn(3, 1)
    expected = plain(pooled, 20.0, symmetric=False, cosine=True)
    assert Contrastive().value(pooled).loss == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ConfigError, match=r"at least two examples in an update, or hard negatives"):
        Contrastive().value(drawn(2, 1))


def test_the_learned_scale_is_clipped_as_clip_has_it() -> None:
    """Beyond 100 the loss is that at 100, and no gradient leads further; so below 1."""
    pooled = drawn(2, 9, seed=5)
    loss = Contrastive(temperature="learned")
    at = {log: loss.value(replace(pooled, log_scale=log)) for log in (-9.0, 0.0, 2.0, 4.7, 99.0)}
    fixed = {scale: Contrastive(temperature=1 / scale).value(pooled).loss for scale in (1, 100)}
    assert at[-9.0].loss == at[0.0].loss == pytest.approx(fixed[1], rel=1e-12)
    assert at[4.7].loss == at[99.0].loss == pytest.approx(fixed[100], rel=1e-12)
    assert at[4.7].d_log_scale > 0.0  # random vectors: down is better
    assert at[-9.0].d_log_scale <= 0.0
    right = replace(pooled, embeddings_KNE=pooled.embeddings_KNE[[0, 0]])  # up is better
    assert loss.value(replace(right, log_scale=4.7)).d_log_scale == 0.0
    assert loss.value(replace(right, log_scale=-1.0)).d_log_scale < 0.0
    assert loss.value(replace(pooled, log_scale=2.0)).d_log_scale == at[2.0].d_log_scale
    assert Contrastive().value(replace(pooled, log_scale=2.0)).d_log_scale == 0.0
    assert loss.metrics() == {"contrastive/temperature": pytest.approx(math.exp(-2.0))}
    assert Contrastive(temperature="learned").metrics() == Contrastive().metrics() == {}


@pytest.mark.parametrize("symmetric", [False, True])
def test_float32_agrees_with_float64(symmetric: bool) -> None:
    pooled = drawn(3, 300, 96, seed=6)
    rounded = replace(pooled, embeddings_KNE=pooled.embeddings_KNE.astype(np.float32))
    pooled = replace(pooled, embeddings_KNE=rounded.embeddings_KNE.astype(np.float64))
    loss = Contrastive(symmetric=symmetric)
    exact, found = loss.value(pooled), loss.value(rounded)
    assert found.d_embeddings_KNE.dtype == np.float32
    assert exact.d_embeddings_KNE.dtype == np.float64
    assert found.loss == pytest.approx(exact.loss, rel=BOTH_TYPES)
    assert largest_error(found.d_embeddings_KNE, exact.d_embeddings_KNE) < BOTH_TYPES


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the twins allocate")
def test_memory_is_that_of_some_rows() -> None:
    """2048 x 4096 similarities would be 32 MiB in float32."""
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((3, 2048, 16), dtype=np.float32)
    pooled = PooledBatch(vectors, np.arange(3 * 2048).reshape(3, 2048))
    loss = Contrastive(symmetric=True)
    tracemalloc.start()
    try:
        loss.value(pooled)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    tile = contrastive._TILE * (4 + 1 + 1)  # similarities, which texts are right, one comparison
    assert peak < tile + 4 * vectors.nbytes


def test_a_number_that_is_none_is_not_hidden() -> None:
    pooled = drawn()
    pooled.embeddings_KNE[0, 1, 2] = math.nan
    value = Contrastive().value(pooled)
    assert math.isnan(value.loss)
    assert np.isnan(value.d_embeddings_KNE).any()


def test_wrong_options_are_refused_in_a_sentence() -> None:
    number = r'temperature: expected a finite number >= 1e-06, or "learned", got '
    for wrong in (0, -1.0, math.nan, math.inf, True, "learnt", None):
        with pytest.raises(ConfigError, match=number):
            Contrastive(temperature=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r'similarity: expected "cosine" or "dot", got "?\'l2'):
        Contrastive(similarity="l2")
    with pytest.raises(ConfigError, match=r"symmetric: expected true or false, got 1"):
        Contrastive(symmetric=1)  # type: ignore[arg-type]


def test_arrays_that_do_not_fit_are_refused_in_a_sentence() -> None:
    pooled = drawn(2, 3)
    loss = Contrastive()
    with pytest.raises(ShapeError, match=r"vectors of shape \(K, N, E\), float32 or float64, got"):
        loss.value(replace(pooled, embeddings_KNE=pooled.embeddings_KNE[0]))
    with pytest.raises(ShapeError, match=r"ids of shape \(2, 3\), got \(2, 2\)"):
        loss.value(replace(pooled, text_ids_KN=pooled.text_ids_KN[:, :2]))
    with pytest.raises(ConfigError, match=r"at least 2 texts in each example, got 1; choose"):
        loss.value(drawn(1, 3))
    with pytest.raises(ConfigError, match=r"a model that learns a scale, got one without; set"):
        Contrastive(temperature="learned").value(pooled)


def test_rounding_of_a_large_scale_leaves_float64_exact() -> None:
    pooled = drawn(2, 5, seed=8)
    got = Contrastive(temperature=1e-3).value(pooled).loss
    expected = plain(pooled, 1e3, symmetric=False, cosine=True)
    assert got == pytest.approx(expected, rel=FLOAT64_ROUNDING * 10)
