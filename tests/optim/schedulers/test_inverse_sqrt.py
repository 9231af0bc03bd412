"""One over the root: the formula of the paper, whatever the length of the run."""

from __future__ import annotations

import pytest

from tisslm.optim.schedulers import InverseSqrt


def test_it_is_the_formula_of_the_paper(idle):
    """``d^-0.5 min(step^-0.5, step warmup^-1.5)``, as a share of its largest value."""
    scheduler, warmup = InverseSqrt(idle(1.0), 25), 25
    for step in range(1, 200):
        expected = min(step**-0.5, step * warmup**-1.5) / warmup**-0.5
        assert scheduler.lr_at(step - 1) == pytest.approx(expected, rel=1e-14)


def test_the_rise_may_be_a_share_of_the_run(idle):
    scheduler = InverseSqrt(idle(1.0), max_steps=200)
    assert scheduler.warmup_steps == 10
    assert scheduler.lr_at(8) < scheduler.lr_at(9) == 1.0 > scheduler.lr_at(10)
    assert scheduler.lr_at(39) == 0.5
