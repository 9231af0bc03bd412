"""Half a cosine, and nanoGPT's numbers."""

from __future__ import annotations

import math

import pytest

from tisslm.optim.schedulers import Cosine


def test_quarters_of_the_way(idle):
    scheduler = Cosine(idle(1.0), 100, min_lr=0.2)
    assert scheduler.lr_at(0) == 1.0
    assert scheduler.lr_at(25) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2, rel=1e-12)
    assert scheduler.lr_at(50) == pytest.approx(0.6, rel=1e-12)
    assert scheduler.lr_at(75) == pytest.approx(0.2 + 0.8 * (1 - math.sqrt(0.5)) / 2, rel=1e-12)
    assert scheduler.lr_at(99) > scheduler.lr_at(100) == 0.2


def test_the_rates_of_nanogpts_character_run(idle):
    """learning_rate 1e-3, min_lr 1e-4, warmup_iters 100, lr_decay_iters 2000."""
    scheduler = Cosine(idle(1e-3), 2000, 100, 1e-4)
    assert scheduler.lr_at(0) == pytest.approx(1e-3 / 101, rel=1e-12)
    assert scheduler.lr_at(99) == pytest.approx(1e-3 * 100 / 101, rel=1e-12)
    assert scheduler.lr_at(100) == 1e-3
    assert scheduler.lr_at(1050) == pytest.approx(5.5e-4, rel=1e-12)
    assert scheduler.lr_at(1999) == pytest.approx(1e-4, rel=1e-5)
    assert scheduler.lr_at(2000) == scheduler.lr_at(2001) == 1e-4


def test_there_is_no_warmup_unless_asked_for(idle):
    assert Cosine(idle(1.0), 100).warmup_steps == 0
