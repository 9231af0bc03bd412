"""Stairs."""

from __future__ import annotations

from tisslm.optim.schedulers import StepDecay


def test_the_rate_falls_after_each_step_size_updates(idle):
    scheduler = StepDecay(idle(1.0), 3, gamma=0.5)
    assert [scheduler.lr_at(s) for s in range(8)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_the_default_falls_to_a_tenth(idle):
    assert StepDecay(idle(1.0), 3).lr_at(3) == 0.1


def test_a_fraction_is_a_share_of_the_run(idle):
    scheduler = StepDecay(idle(1.0), max_steps=10)
    assert [scheduler.step_size, StepDecay(idle(1.0), 0.01, max_steps=10).step_size] == [3, 1]
