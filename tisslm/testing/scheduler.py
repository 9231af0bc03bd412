"""Conformance checks of schedulers: they must keep the contract ``tisslm.contracts.Scheduler``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tisslm.contracts import Optimizer, Scheduler
from tisslm.memory import Parameters
from tisslm.testing.checks import Checks, Report, keeps_final_methods, own_metrics_are_declared
from tisslm.testing.examples import option_sets

__all__ = ["check_scheduler"]

Make = Callable[..., Scheduler]

#: Options that schedulers usually need, and further ones that reach other branches of a curve.
EXAMPLES: Mapping[str, Any] = {
    "max_steps": 20,
    "total_steps": 20,
    "step_size": 3,
    "period": 5,
    "milestones": (5, 10),
    "gamma": 0.5,
    "power": 2.0,
    "warmup_steps": 4,
    "decay_steps": 6,
    "min_lr": 0.001,
}
VARIANTS: tuple[Mapping[str, Any], ...] = (
    {"warmup_steps": 4},
    {"warmup_steps": 0.25, "min_lr": 0.001},
    {"min_lr": 0.1},
)

LR = 0.1


class Idle(Optimizer):
    """An optimizer that only has a learning rate."""

    def update(self, grad_scale: float) -> None:
        """Leave the parameters unchanged."""


def check_scheduler(
    cls: type[Scheduler], *, options: Mapping[str, Any] | None = None, name: str = ""
) -> Report:
    """Check that a scheduler class keeps its contract.

    Parameters
    ----------
    cls : type
    options : mapping, optional
        Options to build it with beyond the optimizer. Left out: ``cls.test_options``, or its
        defaults, with ``max_steps=20`` and the like where there are none. Learning rates among
        the options must suit a base rate of 0.1.
    name : str, optional
        Its name in messages.

    Returns
    -------
    Report

    Raises
    ------
    ConformanceError
        At the first assertion that fails.
    """
    checks = Checks(name or f"scheduler {cls.__name__}", Scheduler)
    checks.run(keeps_final_methods, cls)
    sets = option_sets(cls, options, n_given=1, examples=EXAMPLES, variants=VARIANTS)
    for chosen in sets:
        last = int(chosen.get("max_steps", 20)) + 10

        def make(chosen: Mapping[str, Any] = chosen) -> Scheduler:
            return cls(Idle(Parameters([]), LR), **chosen)

        for prop in PROPERTIES:
            checks.run(prop, make, last, options=chosen)
    return checks.report()


def curve(scheduler: Scheduler, last: int) -> list[float]:
    """Return the rates of steps 0 to ``last``, computed in order."""
    return [float(scheduler.lr_at(step)) for step in range(last + 1)]


def applies_the_first_rate_when_built(checks: Checks, make: Make, last: int) -> None:
    """Check that the constructor keeps the optimizer and its rate, and applies ``lr_at(0)``."""
    scheduler = make()
    checks.same(scheduler.base_lr, LR, "base_lr")
    checks.same(scheduler.optimizer.get_lr(), float(scheduler.lr_at(0)), "the optimizer's lr")
    checks.same(scheduler.get_lr(), float(scheduler.lr_at(0)), "get_lr()")


def rates_are_finite_and_not_negative(checks: Checks, make: Make, last: int) -> None:
    """Check that every rate is finite and not negative, also after the end of the run."""
    scheduler = make()
    for step in (*range(last + 1), 10**6):
        rate = scheduler.lr_at(step)
        checks.finite(rate, f"lr_at({step})")
        checks.that(float(rate) >= 0.0, f"lr_at({step}) >= 0", rate)


def lr_at_is_a_pure_function(checks: Checks, make: Make, last: int) -> None:
    """Check that ``lr_at`` gives the same in any order, from any instance, and applies nothing."""
    scheduler = make()
    expected = curve(scheduler, last)
    applied = scheduler.optimizer.get_lr()
    for step in [*reversed(range(last + 1)), *range(0, last + 1, 3), 0, last, 0]:
        checks.same(float(scheduler.lr_at(step)), expected[step], f"lr_at({step}) asked again")
    checks.same(scheduler.optimizer.get_lr(), applied, "the optimizer's lr after lr_at")
    other = make()
    for step in reversed(range(last + 1)):
        checks.same(float(other.lr_at(step)), expected[step], f"lr_at({step}) of another instance")


def step_applies_the_rate(checks: Checks, make: Make, last: int) -> None:
    """Check that ``step(s)`` applies and returns ``lr_at(s)``, and changes no other rate."""
    scheduler = make()
    expected = curve(scheduler, last)
    for step in [*range(1, last + 1), 1, last // 2]:
        checks.same(scheduler.step(step), expected[step], f"step({step})")
        checks.same(scheduler.optimizer.get_lr(), expected[step], f"lr after step({step})")
        checks.same(scheduler.get_lr(), expected[step], f"get_lr() after step({step})")
    checks.same(curve(scheduler, last), expected, "the curve after stepping through it")


def a_restored_state_gives_the_same_rates(checks: Checks, make: Make, last: int) -> None:
    """Check that the state survives JSON, and that observed metrics then count as before."""
    scheduler = make()
    for step in range(1, 6):
        scheduler.step(step)
        scheduler.observe({"eval/loss": 2.0 + 0.1 * step})
    state = scheduler.state()
    restored = json.loads(json.dumps(state))
    checks.same(restored, state, "the state after JSON")
    resumed = make()
    resumed.load_state(restored)
    checks.same(curve(resumed, last), curve(scheduler, last), "the curve")
    checks.same(resumed.step(6), scheduler.step(6), "step(6)")


PROPERTIES: tuple[Callable[[Checks, Make, int], None], ...] = (
    applies_the_first_rate_when_built,
    rates_are_finite_and_not_negative,
    lr_at_is_a_pure_function,
    step_applies_the_rate,
    a_restored_state_gives_the_same_rates,
    own_metrics_are_declared,
)
