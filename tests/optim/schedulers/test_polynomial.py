"""The power of what is left: a line, a parabola, and its two ends."""

from __future__ import annotations

import pytest

from tisslm.optim.schedulers import Polynomial, WarmupLinear


def test_the_power_of_one_is_a_line(idle):
    line, power = WarmupLinear(idle(1.0), 60, 7, 0.1), Polynomial(idle(1.0), 60, 1.0, 7, 0.1)
    rates = [power.lr_at(s) for s in range(70)]
    assert rates == pytest.approx([line.lr_at(s) for s in range(70)], rel=1e-15)


def test_a_power_of_two_by_hand(idle):
    scheduler = Polynomial(idle(1.0), 14, power=2.0, warmup_steps=4, min_lr=0.5)
    rates = [scheduler.lr_at(s) for s in (0, 3, 4, 9, 14, 99)]
    assert rates == pytest.approx([0.2, 0.8, 1.0, 0.5 + 0.5 * 0.25, 0.5, 0.5], rel=1e-15)
