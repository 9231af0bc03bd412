"""What holds for every built-in scheduler: bounds, purity, the contract, bad options."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.errors import ConfigError
from tisslm.optim.schedulers import (
    Constant,
    Cosine,
    CosineRestarts,
    ExponentialDecay,
    InverseSqrt,
    Polynomial,
    StepDecay,
    WarmupCosine,
    WarmupLinear,
)
from tisslm.optim.schedulers._function import Function

CASES = {
    "constant": (Constant, {}),
    "step": (StepDecay, {"step_size": 7}),
    "exponential": (ExponentialDecay, {}),
    "cosine": (Cosine, {"max_steps": 50, "min_lr": 0.01}),
    "cosine_restarts": (CosineRestarts, {"max_steps": 50, "growth": 2.0}),
    "polynomial": (Polynomial, {"max_steps": 50, "power": 2.0, "min_lr": 0.01}),
    "inverse_sqrt": (InverseSqrt, {"max_steps": 50}),
    "function": (Function, {"function": lambda step: 0.9**step}),
    "cosine_warmup": (Cosine, {"max_steps": 50, "warmup_steps": 9}),
    "warmup_linear": (WarmupLinear, {"max_steps": 50}),
    "warmup_cosine": (WarmupCosine, {"max_steps": 50, "warmup_steps": 0.2}),
}
every_scheduler = pytest.mark.parametrize(("make", "options"), CASES.values(), ids=CASES.keys())
with_warmup = pytest.mark.parametrize("make", [Cosine, WarmupCosine, WarmupLinear])
of_a_run = pytest.mark.parametrize(
    ("make", "name"),
    [
        (Cosine, "cosine"),
        (CosineRestarts, "cosine_restarts"),
        (Polynomial, "polynomial"),
        (WarmupCosine, "warmup_cosine"),
        (WarmupLinear, "warmup_linear"),
    ],
)

FEW = settings(max_examples=60, deadline=None, derandomize=True)


@every_scheduler
def test_the_rate_of_the_first_update_is_applied_at_once(idle, make, options):
    optimizer = idle(0.1)
    scheduler = make(optimizer, **options)
    assert optimizer.get_lr() == scheduler.get_lr() == scheduler.lr_at(0) > 0


@every_scheduler
def test_after_an_update_the_next_ones_rate_is_applied_and_returned(idle, make, options):
    optimizer = idle(0.1)
    scheduler = make(optimizer, **options)
    for made in (1, 2, 30, 49, 50, 10_000):
        assert scheduler.step(made) == scheduler.lr_at(made)
        assert optimizer.get_lr() == scheduler.get_lr() == scheduler.lr_at(made)


@every_scheduler
def test_the_rate_depends_on_the_step_alone(idle, make, options):
    scheduler, fresh = make(idle(0.1), **options), make(idle(0.1), **options)
    for made in (40, 3, 3, 77):
        scheduler.step(made)
    scheduler.optimizer.set_lr(123.0)
    assert [scheduler.lr_at(s) for s in range(60)] == [fresh.lr_at(s) for s in range(60)]


@every_scheduler
@FEW
@given(step=st.integers(0, 10**9))
def test_the_rate_stays_between_zero_and_the_optimizers(idle, make, options, step):
    assert 0.0 <= make(idle(0.1), **options).lr_at(step) <= 0.1


@every_scheduler
def test_the_rate_is_proportional_to_the_optimizers(idle, make, options):
    options = {k: v for k, v in options.items() if k != "min_lr"}
    one, ten = make(idle(0.1), **options), make(idle(1.0), **options)
    assert [ten.lr_at(s) for s in range(60)] == pytest.approx(
        [10 * one.lr_at(s) for s in range(60)], rel=1e-12
    )


# --------------------------------------------------------------------------- warm-up and fall


@with_warmup
@FEW
@given(data=st.data())
def test_it_rises_to_the_optimizers_rate_then_falls_to_the_minimum(idle, make, data):
    max_steps = data.draw(st.integers(1, 300))
    warmup_steps = data.draw(st.integers(0, max_steps - 1))
    min_lr = data.draw(st.sampled_from([0.0, 0.01, 0.1]))
    scheduler = make(idle(0.1), max_steps, warmup_steps, min_lr)
    rates = [scheduler.lr_at(s) for s in range(max_steps + 3)]
    rise, fall = rates[: warmup_steps + 1], rates[warmup_steps:]
    assert rates[warmup_steps] == 0.1
    assert rates[max_steps:] == [min_lr] * 3
    line = [0.1 * (s + 1) / (warmup_steps + 1) for s in range(warmup_steps + 1)]
    assert rise == pytest.approx(line, rel=1e-12)
    assert all(a >= b for a, b in pairwise(fall))


@with_warmup
@pytest.mark.parametrize(
    ("given_as", "max_steps", "steps"),
    [(0.1, 100, 10), (0.07, 100, 7), (0.29, 100, 29), (0.0, 5, 0), (0.05, 1, 0), (0.999, 10, 9)],
)
def test_a_fraction_is_rounded_to_whole_updates_and_leaves_one_to_fall(
    idle, make, given_as, max_steps, steps
):
    assert make(idle(), max_steps, given_as).warmup_steps == steps


@with_warmup
def test_the_founding_positional_form(idle, make):
    scheduler = make(idle(), 10000, 1000, 0.01)
    assert (scheduler.max_steps, scheduler.warmup_steps, scheduler.min_lr) == (10000, 1000, 0.01)


@with_warmup
def test_a_run_of_one_update_has_the_full_rate(idle, make):
    assert make(idle(0.1), 1).lr_at(0) == 0.1


# --------------------------------------------------------------------------- bad options

BAD_OPTIONS = [
    (
        StepDecay,
        {"step_size": 0},
        "step: step_size: expected an integer >= 1, or a fraction below 1, got 0",
    ),
    (
        StepDecay,
        {"step_size": 2.5},
        "step: step_size: expected an integer >= 1, or a fraction below 1, got 2.5",
    ),
    (
        StepDecay,
        {"step_size": 0.5},
        "step: step_size: a fraction, 0.5, needs max_steps; give it, too",
    ),
    (
        StepDecay,
        {"step_size": 5, "gamma": 0.0},
        "step: gamma: expected a number in (0, 1], got 0.0",
    ),
    (
        CosineRestarts,
        {"max_steps": 9, "cycles": 0},
        "cosine_restarts: cycles: expected a number of cycles, an integer >= 1, got 0",
    ),
    (
        CosineRestarts,
        {"max_steps": 9, "growth": 0.5},
        "cosine_restarts: growth: expected a finite number >= 1, got 0.5",
    ),
    (
        Polynomial,
        {"max_steps": 9, "power": -1},
        "polynomial: power: expected a finite number >= 0, got -1",
    ),
    (
        InverseSqrt,
        {"warmup_steps": 0},
        "inverse_sqrt: warmup_steps: expected an integer >= 1, or a fraction below 1, got 0",
    ),
    (
        InverseSqrt,
        {"warmup_steps": 0.5},
        "inverse_sqrt: warmup_steps: a fraction, 0.5, needs max_steps; give it, too",
    ),
    (
        Function,
        {"function": "0.9"},
        "function: function: expected a function of the number of updates, got '0.9'; give one",
    ),
    (ExponentialDecay, {"gamma": 1.1}, "exponential: gamma: expected a number in (0, 1], got 1.1"),
    (
        ExponentialDecay,
        {"gamma": math.nan},
        "exponential: gamma: expected a number in (0, 1], got nan",
    ),
    (
        ExponentialDecay,
        {"gamma": "0.9"},
        "exponential: gamma: expected a number in (0, 1], got '0.9'",
    ),
]


@pytest.mark.parametrize(("make", "options", "message"), BAD_OPTIONS)
def test_a_bad_option_is_named(idle, make, options, message):
    with pytest.raises(ConfigError) as caught:
        make(idle(), **options)
    assert str(caught.value) == f"scheduler {message}"


@of_a_run
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, "max_steps: expected a number of updates, an integer >= 1, got 0"),
        ({"max_steps": None}, "max_steps: expected a number of updates, an integer >= 1, got None"),
        ({"max_steps": True}, "max_steps: expected a number of updates, an integer >= 1, got True"),
        (
            {"max_steps": 10, "warmup_steps": 10},
            "warmup_steps: expected an integer from 0 to below max_steps = 10, "
            "or a fraction below 1, got 10",
        ),
        (
            {"max_steps": 10, "warmup_steps": 1.0},
            "warmup_steps: expected an integer from 0 to below max_steps = 10, "
            "or a fraction below 1, got 1.0",
        ),
        (
            {"max_steps": 10, "warmup_steps": -1},
            "warmup_steps: expected an integer from 0 to below max_steps = 10, "
            "or a fraction below 1, got -1",
        ),
        (
            {"max_steps": 10, "warmup_steps": "5%"},
            "warmup_steps: expected an integer from 0 to below max_steps = 10, "
            "or a fraction below 1, got '5%'",
        ),
        (
            {"max_steps": 10, "min_lr": 0.2},
            "min_lr: expected a number from 0 to the learning rate 0.1, got 0.2",
        ),
        (
            {"max_steps": 10, "min_lr": -0.1},
            "min_lr: expected a number from 0 to the learning rate 0.1, got -0.1",
        ),
    ],
)
def test_a_bad_option_of_a_curve_is_named(idle, make, name, options, message):
    optimizer = idle(0.1)
    with pytest.raises(ConfigError) as caught:
        make(optimizer, **options)
    assert str(caught.value) == f"scheduler {name}: {message}"
    assert optimizer.get_lr() == 0.1


@pytest.mark.parametrize("cls", [Cosine, WarmupCosine, WarmupLinear])
def test_the_last_rate_may_be_a_share_of_the_first(idle, cls):
    assert cls(idle(0.02), 10, min_lr_ratio=0.25).lr_at(10) == 0.25 * 0.02
    assert cls(idle(0.02), 10, min_lr_ratio=1).lr_at(9) == 0.02
    for options, message in (
        ({"min_lr_ratio": 1.5}, r"min_lr_ratio: expected a number from 0 to 1, got 1\.5$"),
        ({"min_lr_ratio": True}, r"min_lr_ratio: expected a number from 0 to 1, got True$"),
        ({"min_lr": 0.01, "min_lr_ratio": 0.5}, r"min_lr: expected none beside min_lr_ratio = "),
    ):
        with pytest.raises(ConfigError, match=message):
            cls(idle(0.02), 10, **options)
