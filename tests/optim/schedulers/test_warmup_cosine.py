"""The cosine that rises first."""

from __future__ import annotations

from tisslm.optim.schedulers import Cosine, WarmupCosine


def test_it_is_the_cosine_with_a_warmup(idle):
    scheduler, cosine = WarmupCosine(idle(1.0), 60, 7, 0.1), Cosine(idle(1.0), 60, 7, 0.1)
    assert [scheduler.lr_at(s) for s in range(70)] == [cosine.lr_at(s) for s in range(70)]


def test_a_twentieth_of_the_run_rises_by_default(idle):
    scheduler = WarmupCosine(idle(1.0), 200)
    assert scheduler.warmup_steps == 10
    assert scheduler.lr_at(0) == 1 / 11
    assert scheduler.lr_at(9) < scheduler.lr_at(10) == 1.0 > scheduler.lr_at(11)
