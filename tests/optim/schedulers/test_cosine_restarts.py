"""Half a cosine again and again: where cycles begin, how long they are, and the last one's end."""

from __future__ import annotations

import pytest

from tisslm.errors import ConfigError
from tisslm.optim.schedulers import Cosine, CosineRestarts


def test_one_cycle_is_the_cosine(idle):
    one, cosine = CosineRestarts(idle(1.0), 60, 1, 1.0, 7, 0.1), Cosine(idle(1.0), 60, 7, 0.1)
    assert [one.lr_at(s) for s in range(70)] == [cosine.lr_at(s) for s in range(70)]


def test_cycles_are_equally_long_unless_they_grow(idle):
    equal = CosineRestarts(idle(1.0), 45, cycles=4, warmup_steps=5, min_lr=0.2)
    assert [s for s in range(60) if equal.lr_at(s) == 1.0] == [5, 15, 25, 35]
    assert [equal.lr_at(s) for s in (10, 20, 30, 40)] == pytest.approx([0.6] * 4, rel=1e-12)
    assert [equal.lr_at(s) for s in (45, 100)] == [0.2, 0.2]
    growing = CosineRestarts(idle(1.0), 70, cycles=3, growth=2.0)
    assert [s for s in range(80) if growing.lr_at(s) == 1.0] == [0, 10, 30]
    assert [growing.lr_at(s) for s in (5, 20, 50)] == pytest.approx([0.5] * 3, rel=1e-12)


@pytest.mark.parametrize(
    ("cycles", "growth", "words"),
    [
        (10**12, 1.0, "cycles: expected at most 65536, got 1000000000000"),
        (2000, 10.0, "growth: expected lengths of 2000 cycles that are finite, got 10 for each"),
        (2, 1e308, None),
        (3, 1e200, "growth: expected lengths of 3 cycles"),
    ],
)
def test_cycles_beyond_numbers_are_refused(idle, cycles, growth, words):
    if words is None:
        assert CosineRestarts(idle(1.0), 60, cycles, growth).lr_at(0) == 1.0
        return
    with pytest.raises(ConfigError, match=f"^scheduler cosine_restarts: {words}"):
        CosineRestarts(idle(1.0), 60, cycles, growth)
