"""The check of monitors: a right one passes, and each wrong one fails by its own property."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.contracts import Monitor
from tisslm.testing import check_monitor


class Right(Monitor):
    """The largest element of each array."""

    wants = frozenset({"weights"})

    def __init__(self):
        self.found = {}

    def observe(self, site, array):
        self.found[f"largest/{site}"] = float(np.abs(array).max())

    def metrics(self):
        found, self.found = self.found, {}
        return found


class Scales(Right):
    def observe(self, site, array):
        array *= 2


class ScalesByForce(Right):
    def observe(self, site, array):
        super().observe(site, array)
        base = array.base
        base *= 2


class KeepsTheView(Right):
    def observe(self, site, array):
        self.found[f"largest/{site}"] = array

    def metrics(self):
        return {name: float(np.abs(array).max()) for name, array in super().metrics().items()}


class NeverForgets(Right):
    def observe(self, site, array):
        largest = max(self.found.get("largest", 0.0), float(np.abs(array).max()))
        self.found["largest"] = largest

    def metrics(self):
        return dict(self.found)


class NumbersItsMetrics(Right):
    def metrics(self):
        return dict(enumerate(super().metrics().values()))


class ReturnsPairs(Right):
    def metrics(self):
        return list(super().metrics().items())


class Chokes(Right):
    def observe(self, site, array):
        if np.isnan(array).any():
            raise ValueError("no number")
        super().observe(site, array)


class GivesArrays(Right):
    def metrics(self):
        return {name: np.full(2, value) for name, value in super().metrics().items()}


class NumbersPieces(Right):
    wants = frozenset({"activations"})

    def observe(self, site, array):
        self.found[f"piece {len(self.found)}"] = float(array.sum())


class WantsThoughts(Right):
    wants = frozenset({"thoughts"})


class WantsNothing(Right):
    wants = frozenset()


class OnlyMatrices(Right):
    def observe(self, site, array):
        rows, _ = array.shape
        self.found[site] = rows


WRONG = [
    (Scales, "only looks"),
    (ScalesByForce, "only looks"),
    (KeepsTheView, "keeps no view"),
    (NeverForgets, "metrics are those since the last call"),
    (NumbersItsMetrics, "metrics have names"),
    (ReturnsPairs, "metrics have names"),
    (Chokes, "looks at any number"),
    (GivesArrays, "metrics are values"),
    (NumbersPieces, "takes pieces"),
    (WantsThoughts, "wants what there is"),
    (WantsNothing, "wants what there is"),
    (OnlyMatrices, "only looks"),
]


def test_a_right_monitor_passes():
    assert check_monitor(Right).n_assertions > 20


@pytest.mark.parametrize(("wrong", "prop"), WRONG, ids=[w.__name__ for w, _ in WRONG])
def test_a_wrong_monitor_fails_by_its_property(refuses, wrong, prop):
    refuses(check_monitor, wrong, prop)
