"""The check of schedulers: a right one passes, and each wrong one fails by its own property."""

from __future__ import annotations

import math

import pytest

from tisslm.contracts import Scheduler
from tisslm.errors import ConfigError
from tisslm.testing import check_scheduler


class Right(Scheduler):
    """A line to zero, from a rate that halves whenever an evaluation was worse."""

    def __init__(self, optimizer, max_steps):
        super().__init__(optimizer)
        self.max_steps, self.factor, self.best = max_steps, 1.0, None
        self.start()

    def lr_at(self, step):
        return self.factor * self.base_lr * max(0.0, 1.0 - step / self.max_steps)

    def observe(self, metrics):
        value = metrics["eval/loss"]
        if self.best is not None and value > self.best:
            self.factor /= 2
        self.best = value if self.best is None else min(self.best, value)

    def state(self):
        return {"factor": self.factor, "best": self.best}

    def load_state(self, state):
        self.factor, self.best = state["factor"], state["best"]


class Counts(Right):
    calls = 0

    def lr_at(self, step):
        self.calls += 1
        return super().lr_at(step) * (1 if self.calls < 40 else 0.5)


class CountsForAll(Right):
    calls = 0

    def lr_at(self, step):
        CountsForAll.calls += 1
        return super().lr_at(step) + 1e-9 * CountsForAll.calls


class FollowsTheOptimizer(Right):
    def lr_at(self, step):
        return self.optimizer.get_lr() * 0.9


class AppliesWhenAsked(Right):
    def lr_at(self, step):
        rate = super().lr_at(step)
        self.optimizer.set_lr(rate)
        return rate


class Negative(Right):
    def lr_at(self, step):
        return self.base_lr * (1.0 - step / self.max_steps)


class NotANumberAtTheEnd(Right):
    def lr_at(self, step):
        return super().lr_at(step) if step <= self.max_steps else math.nan


class NeverStarts(Right):
    def start(self):
        """Overrides a final method."""


class LosesItsStart(Scheduler):
    def __init__(self, optimizer, max_steps):
        super().__init__(optimizer)

    def lr_at(self, step):
        return self.base_lr / 2


class ForgetsItsState(Right):
    def state(self):
        return {}

    def load_state(self, state):
        """Nothing to load."""


class SavesATuple(Right):
    def state(self):
        return {"both": (self.factor, self.best)}

    def load_state(self, state):
        self.factor, self.best = state["both"]


WRONG = [
    (Counts, "lr at is a pure function"),
    (CountsForAll, "applies the first rate when built"),
    (FollowsTheOptimizer, "applies the first rate when built"),
    (AppliesWhenAsked, "lr at is a pure function"),
    (Negative, "rates are finite and not negative"),
    (NotANumberAtTheEnd, "rates are finite and not negative"),
    (NeverStarts, "keeps final methods"),
    (LosesItsStart, "applies the first rate when built"),
    (ForgetsItsState, "a restored state gives the same rates"),
    (SavesATuple, "a restored state gives the same rates"),
]


def test_a_right_scheduler_with_memory_passes():
    assert check_scheduler(Right).n_assertions > 100


@pytest.mark.parametrize(("wrong", "prop"), WRONG, ids=[w.__name__ for w, _ in WRONG])
def test_a_wrong_scheduler_fails_by_its_property(refuses, wrong, prop):
    refuses(check_scheduler, wrong, prop)


def test_an_option_without_default_or_example_asks_for_help():
    class Mine(Right):
        def __init__(self, optimizer, temperature):
            super().__init__(optimizer, 20)

    with pytest.raises(ConfigError) as caught:
        check_scheduler(Mine)
    assert str(caught.value) == (
        "Mine: option 'temperature' has no default and the checks know no example; "
        "give options=, or set the class attribute test_options"
    )
    assert check_scheduler(Mine, options={"temperature": 3}).n_assertions > 100
