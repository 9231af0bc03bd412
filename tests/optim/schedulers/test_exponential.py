"""The same factor at every update."""

from __future__ import annotations

import pytest

from tisslm.optim.schedulers import ExponentialDecay


def test_every_update_multiplies_the_rate(idle):
    scheduler = ExponentialDecay(idle(1.0), gamma=0.5)
    assert [scheduler.lr_at(s) for s in range(4)] == [1, 0.5, 0.25, 0.125]


def test_the_default_falls_to_a_tenth_in_2300_updates(idle):
    assert ExponentialDecay(idle(1.0)).lr_at(2300) == pytest.approx(0.1, rel=0.01)


def test_the_rate_to_reach_a_share_after_so_many_updates(idle):
    assert ExponentialDecay(idle(1.0), 0.01 ** (1 / 500)).lr_at(500) == pytest.approx(0.01)


def test_a_very_late_rate_is_zero_and_no_error(idle):
    assert ExponentialDecay(idle(1.0), 0.5).lr_at(10**7) == 0.0
