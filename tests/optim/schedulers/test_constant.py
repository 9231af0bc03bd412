"""The constant rate."""

from __future__ import annotations

from tisslm.optim.schedulers import Constant


def test_every_update_has_the_optimizers_rate(idle):
    scheduler = Constant(idle(0.25))
    assert [scheduler.lr_at(s) for s in (0, 1, 10**9)] == [0.25] * 3
