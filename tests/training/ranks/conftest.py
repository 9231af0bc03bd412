"""Weights that come back from other ranks as late as they can."""

from __future__ import annotations

import threading
from collections import defaultdict

import numpy as np
import pytest

from tisslm.training.ranks.returning import Returning


@pytest.fixture
def late_weights(monkeypatch):
    """Let updated weights come when the first rank asks for some, and NaN be there until then.

    Whoever reads weights without asking for them computes with NaN, always.
    """
    asked = defaultdict(threading.Event)
    numbers = defaultdict(int)
    start, work, until = Returning.start, Returning._work, Returning._until

    def late_start(self):
        self.wait()
        numbers[id(self)] += 1
        for parcel in self._parcels:
            for array in parcel.received:
                array.fill(np.nan)
        start(self)

    def late_work(self):
        assert asked[numbers[id(self)]].wait(60)
        work(self)

    def telling_until(self, first, stop):
        if self._n_here < len(self._parcels):
            asked[numbers[id(self)]].set()
        until(self, first, stop)

    monkeypatch.setattr(Returning, "start", late_start)
    monkeypatch.setattr(Returning, "_work", late_work)
    monkeypatch.setattr(Returning, "_until", telling_until)
