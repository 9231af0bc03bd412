"""The check of losses of vectors: a right one passes, each wrong one fails by its own property."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.contracts import EmbeddingLoss, PooledValue
from tisslm.errors import ConfigError
from tisslm.optim.losses import Contrastive, CosineSimilarity, Triplet
from tisslm.testing import check_loss


class Right(EmbeddingLoss):
    """Half the squared distance between the first text and the mean of the others."""

    def value(self, pooled, *, gradient=True):
        x, n = pooled.embeddings_KNE, pooled.embeddings_KNE.shape[1]
        apart = x[0] - x[1:].mean(axis=0, dtype=np.float64)
        loss = 0.5 * float((apart * apart).sum(dtype=np.float64)) / n
        if not gradient:
            return PooledValue(loss)
        d = np.empty_like(x)
        d[0] = apart / n
        d[1:] = -apart / n / (len(x) - 1)
        return PooledValue(loss, d)


class Scored(Right):
    """The same, of texts with scores, which it weighs."""

    needs_score = True

    def value(self, pooled, *, gradient=True):
        if pooled.score_N is None:
            raise ConfigError("scores are missing")
        root_N = np.sqrt(pooled.score_N)[None, :, None]
        value = super().value(type(pooled)(pooled.embeddings_KNE * root_N, pooled.text_ids_KN))
        return PooledValue(value.loss, value.d_embeddings_KNE * root_N if gradient else None)


class WrongSign(Right):
    def value(self, pooled, *, gradient=True):
        value = super().value(pooled, gradient=gradient)
        return PooledValue(value.loss, -value.d_embeddings_KNE if gradient else None)


class Sums(Right):
    def value(self, pooled, *, gradient=True):
        value = super().value(pooled, gradient=gradient)
        return PooledValue(value.loss * pooled.embeddings_KNE.shape[1], value.d_embeddings_KNE)


class Doubles(Right):
    def value(self, pooled, *, gradient=True):
        value = super().value(pooled, gradient=gradient)
        return PooledValue(value.loss, value.d_embeddings_KNE.astype(float) if gradient else None)


class EditsTheVectors(Right):
    def value(self, pooled, *, gradient=True):
        pooled.embeddings_KNE[...] *= 2
        return super().value(pooled, gradient=gradient)


class AlwaysGradient(Right):
    def value(self, pooled, *, gradient=True):
        return super().value(pooled)


class FirstCountsTwice(Right):
    def value(self, pooled, *, gradient=True):
        value = super().value(pooled, gradient=gradient)
        x = pooled.embeddings_KNE
        more = 0.5 * float((x[0, 0] * x[0, 0]).sum(dtype=np.float64))
        if gradient:
            value.d_embeddings_KNE[0, 0] += x[0, 0]
        return PooledValue(value.loss + more, value.d_embeddings_KNE)


class DividesByLength(Right):
    def value(self, pooled, *, gradient=True):
        value = super().value(pooled, gradient=gradient)
        with np.errstate(all="ignore"):
            x = pooled.embeddings_KNE
            one = np.linalg.norm(x, axis=-1) / np.linalg.norm(x, axis=-1)
        return PooledValue(value.loss * float(one.mean()), value.d_embeddings_KNE)


class AddsItsCalls(Right):
    calls = 0

    def value(self, pooled, *, gradient=True):
        value = super().value(pooled, gradient=gradient)
        self.calls += pooled.embeddings_KNE.shape[1] > 100
        return PooledValue(value.loss + 1e-3 * self.calls, value.d_embeddings_KNE)


class ScaleWithoutLearning(Right):
    def value(self, pooled, *, gradient=True):
        value = super().value(pooled, gradient=gradient)
        return PooledValue(value.loss, value.d_embeddings_KNE, 0.5)


class LearnsWithoutAsking(Right):
    learns_scale = True

    def value(self, pooled, *, gradient=True):
        value = super().value(pooled, gradient=gradient)
        log = pooled.log_scale or 0.0
        return PooledValue(value.loss + log * log, value.d_embeddings_KNE, 2 * log)


class ForgetsTheScale(Right):
    learns_scale = True

    def value(self, pooled, *, gradient=True):
        value = super().value(pooled, gradient=gradient)
        return PooledValue(value.loss + pooled.log_scale, value.d_embeddings_KNE)


class TakesNoScore(Right):
    needs_score = True


class TakesOneAlone(Right):
    needs_others = True


class AnyNumberOfTexts(Right):
    n_texts = 2


class InHalf(Right):
    def value(self, pooled, *, gradient=True):
        x = pooled.embeddings_KNE
        if x.dtype == np.float32:
            x = x.astype(np.float16).astype(np.float32)
        return super().value(type(pooled)(x, pooled.text_ids_KN), gradient=gradient)


WRONG = [
    (AnyNumberOfTexts, "says what it needs"),
    (Doubles, "value is a number and a gradient"),
    (EditsTheVectors, "value is a number and a gradient"),
    (WrongSign, "the gradient is that of central differences"),
    (Sums, "the gradient is that of central differences"),
    (ForgetsTheScale, "the gradient is that of central differences"),
    (ScaleWithoutLearning, "only a learned scale has a gradient"),
    (LearnsWithoutAsking, "only a learned scale has a gradient"),
    (TakesNoScore, "scores are asked for where they are needed"),
    (TakesOneAlone, "one example alone is taken or refused"),
    (AlwaysGradient, "without gradient the loss is the same"),
    (FirstCountsTwice, "the order of the examples does not matter"),
    (DividesByLength, "any vectors give finite numbers"),
    (AddsItsCalls, "the same vectors give the same bits"),
    (InHalf, "float32 and float64 agree"),
]


@pytest.mark.parametrize("right", [Right, Scored, Contrastive, Triplet, CosineSimilarity])
def test_a_right_loss_passes(right):
    assert check_loss(right).n_assertions > 100


@pytest.mark.parametrize(("wrong", "prop"), WRONG, ids=[w.__name__ for w, _ in WRONG])
def test_a_wrong_loss_fails_by_its_property(refuses, wrong, prop):
    refuses(check_loss, wrong, prop)


def test_the_message_names_the_contract():
    with pytest.raises(AssertionError, match=r"See tisslm\.contracts\.EmbeddingLoss"):
        check_loss(WrongSign)
