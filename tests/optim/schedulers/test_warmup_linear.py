"""Up in a line, down in a line."""

from __future__ import annotations

import pytest

from tisslm.optim.schedulers import WarmupLinear


def test_every_rate_of_a_short_run(idle):
    scheduler = WarmupLinear(idle(1.0), 8, 3, 0.5)
    rates = [scheduler.lr_at(s) for s in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5], rel=1e-12)


def test_a_twentieth_of_the_run_rises_by_default(idle):
    assert WarmupLinear(idle(1.0), 200).warmup_steps == 10
