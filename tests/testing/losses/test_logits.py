"""The check of losses: a right one passes, and each wrong one fails by its own property."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.contracts import Loss, Metric
from tisslm.testing import check_loss


class Right(Loss):
    """Squared distance between the predicted distribution and the target's."""

    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        real_N = targets_N != -100
        rows, chosen = np.flatnonzero(real_N), targets_N[real_N]
        s_NV = np.exp(logits_NV - logits_NV.max(axis=1, keepdims=True))
        s_NV /= s_NV.sum(axis=1, keepdims=True)
        miss_NV = s_NV.copy()
        miss_NV[rows, chosen] -= 1
        counts_N = np.where(real_N, weights_N, 0).astype(weights_N.dtype)
        if gradient:
            mean_N1 = (s_NV * miss_NV).sum(axis=1, keepdims=True)
            logits_NV[...] = 2 * counts_N[:, None] * s_NV * (miss_NV - mean_N1)
        return counts_N * (miss_NV * miss_NV).sum(axis=1)


class WrongSign(Right):
    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        losses_N = super().tile(logits_NV, targets_N, weights_N, gradient=gradient)
        if gradient:
            logits_NV *= -1
        return losses_N


class SlightlyOff(Right):
    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        losses_N = super().tile(logits_NV, targets_N, weights_N, gradient=gradient)
        if gradient:
            logits_NV[3, 1] *= 1 + 1e-4
        return losses_N


class WritesWithoutGradient(Right):
    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        return super().tile(logits_NV, targets_N, weights_N)


class SquaresTheWeights(Right):
    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        return super().tile(logits_NV, targets_N, weights_N**2, gradient=gradient)


class NormalizesTheTile(Right):
    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        losses_N = super().tile(logits_NV, targets_N, weights_N, gradient=gradient)
        if gradient:
            logits_NV /= len(logits_NV)
        return losses_N / len(logits_NV)


class LearnsFromNoTarget(Right):
    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        aimed_N = np.maximum(targets_N, 0)
        counts_N = np.where(targets_N < 0, weights_N.dtype.type(0.1), weights_N)
        return super().tile(logits_NV, aimed_N, counts_N, gradient=gradient)


class Overflows(Right):
    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        with np.errstate(all="ignore"):
            scale_N1 = np.exp(logits_NV).sum(axis=1, keepdims=True)
            logits_NV *= scale_N1 / scale_N1
        return super().tile(logits_NV, targets_N, weights_N, gradient=gradient)


class EditsTheWeights(Right):
    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        losses_N = super().tile(logits_NV, targets_N, weights_N, gradient=gradient)
        weights_N[:] = 0
        return losses_N


class AlwaysFloat64(Right):
    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        return super().tile(logits_NV, targets_N, weights_N, gradient=gradient).astype(np.float64)


class Remembers(Right):
    seen = 0

    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        losses_N = super().tile(logits_NV, targets_N, weights_N, gradient=gradient)
        if logits_NV.dtype == np.float32 and len(targets_N) == 9:
            self.seen += 1
            losses_N *= np.float32(0.5**self.seen)
        return losses_N


class KeepsItsLosses(Right):
    """Returns an array that the next call writes again, as the contract allows."""

    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        losses_N = super().tile(logits_NV, targets_N, weights_N, gradient=gradient)
        kept = self.__dict__.setdefault("kept", {})
        kept_N = kept.setdefault(str(losses_N.dtype), np.empty(1000, losses_N.dtype))
        kept_N[: len(losses_N)] = losses_N
        return kept_N[: len(losses_N)]


class RemembersInWhatItKeeps(KeepsItsLosses):
    seen = 0

    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        losses_N = super().tile(logits_NV, targets_N, weights_N, gradient=gradient)
        if logits_NV.dtype == np.float32 and len(targets_N) == 9:
            self.seen += 1
            losses_N *= np.float32(0.5**self.seen)
        return losses_N


class LazyInFloat32(Right):
    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        losses_N = super().tile(logits_NV, targets_N, weights_N, gradient=gradient)
        if gradient and logits_NV.dtype == np.float32:
            logits_NV *= np.float32(1.001)
        return losses_N


class NeedsNothing(Right):
    needs = "nothing"


class OwnForward(Right):
    def forward(self, logits, targets):
        return 1.0


class Undeclared(Right):
    def metrics(self):
        return {"squares/largest": 1.0}


class Wordy(Right):
    declares = (Metric("squares/largest", "largest"),)

    def metrics(self):
        return {"squares/largest": "large"}


class Forgets(Right):
    declares = (Metric("squares/largest", "largest"),)
    asked = False

    def metrics(self):
        found = {} if self.asked else {"squares/largest": 1.0}
        self.asked = True
        return found


WRONG = [
    (Undeclared, "own metrics are declared"),
    (Wordy, "own metrics are declared"),
    (Forgets, "own metrics are declared"),
    (WrongSign, "the gradient is that of central differences"),
    (SlightlyOff, "the gradient is that of central differences"),
    (WritesWithoutGradient, "without gradient the logits stay"),
    (SquaresTheWeights, "losses and gradient are linear in the weights"),
    (NormalizesTheTile, "rows do not see each other"),
    (LearnsFromNoTarget, "losses and gradient are linear in the weights"),
    (Overflows, "extreme logits give finite numbers"),
    (EditsTheWeights, "a tile gives one loss a row"),
    (AlwaysFloat64, "a tile gives one loss a row"),
    (Remembers, "the same tile gives the same bits"),
    (RemembersInWhatItKeeps, "the same tile gives the same bits"),
    (LazyInFloat32, "float32 and float64 agree"),
    (NeedsNothing, "needs logits or hidden"),
    (OwnForward, "keeps final methods"),
]


@pytest.mark.parametrize("right", [Right, KeepsItsLosses])
def test_a_right_loss_passes(right):
    assert check_loss(right).n_assertions > 100


@pytest.mark.parametrize(("wrong", "prop"), WRONG, ids=[w.__name__ for w, _ in WRONG])
def test_a_wrong_loss_fails_by_its_property(refuses, wrong, prop):
    refuses(check_loss, wrong, prop)


class Hidden(Loss):
    """A loss on hidden states: half their squares, by weight."""

    needs = "hidden"
    sign = 1

    def whole(self, hidden_BTC, batch):
        gradient = hidden_BTC * batch.weights_BT[:, :, None]
        return 0.5 * float((gradient * hidden_BTC).sum()), self.sign * gradient


class HiddenWrongSign(Hidden):
    sign = -1


class HiddenSquaresTheWeights(Hidden):
    def whole(self, hidden_BTC, batch):
        total, gradient = super().whole(hidden_BTC, batch)
        size = batch.weights_BT.sum()
        return total * float(size), gradient * size


class HiddenInPlace(Hidden):
    def whole(self, hidden_BTC, batch):
        total, gradient = super().whole(hidden_BTC, batch)
        hidden_BTC[...] = gradient
        return total, hidden_BTC


def test_a_right_loss_on_hidden_states_passes():
    assert check_loss(Hidden).n_assertions > 50


@pytest.mark.parametrize(
    ("wrong", "prop"),
    [
        (HiddenWrongSign, "the gradient is that of central differences"),
        (HiddenSquaresTheWeights, "loss and gradient are linear in the weights"),
        (HiddenInPlace, "whole gives a loss and a gradient"),
    ],
)
def test_a_wrong_loss_on_hidden_states_fails_by_its_property(refuses, wrong, prop):
    refuses(check_loss, wrong, prop)
