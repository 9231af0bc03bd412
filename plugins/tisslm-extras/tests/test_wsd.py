"""wsd: the curve by hand, its three shapes, durations, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tisslm_extras.wsd import WSD

from tisslm.contracts import Optimizer
from tisslm.errors import ConfigError
from tisslm.memory import Parameters, ParameterSpec

#: A few roundings of float64.
ROUNDING = 1e-14


class Still(Optimizer):
    """Has a learning rate and moves nothing."""

    def update(self, grad_scale: float) -> None:
        pass


def optimizer(lr: float = 0.8) -> Still:
    return Still(Parameters([ParameterSpec("w", (2,))]), lr)


def test_the_curve_by_hand() -> None:
    schedule = WSD(optimizer(), max_steps=10, warmup_steps=3, decay_steps=4, min_lr=0.4)
    expected = [0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4]
    np.testing.assert_allclose([schedule.lr_at(s) for s in range(12)], expected, rtol=ROUNDING)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [1.0, 0.75, 0.5, 0.25, 0.0]),
        ("sqrt", [1.0, 0.5, 1 - math.sqrt(0.5), 1 - math.sqrt(0.75), 0.0]),
        ("cosine", [1.0, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4, 0.0]),
    ],
)
def test_each_shape_at_the_quarters_of_the_fall(shape: str, expected: list[float]) -> None:
    schedule = WSD(optimizer(1.0), 12, warmup_steps=0, decay_steps=8, decay_shape=shape)
    rates = [schedule.lr_at(s) for s in (4, 6, 8, 10, 12)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shape", ["linear", "sqrt", "cosine"])
def test_no_update_has_rate_zero_and_the_rate_rises_then_falls(shape: str) -> None:
    schedule = WSD(optimizer(), 200, decay_shape=shape)
    rates = np.array([schedule.lr_at(s) for s in range(200)])
    assert (rates > 0.0).all()
    assert (np.diff(rates[:11]) > 0.0).all()  # a twentieth of 200 updates
    assert (rates[10:181] == 0.8).all()
    assert (np.diff(rates[180:]) < 0.0).all()  # a tenth


def test_it_sets_the_first_rate_and_each_next_one() -> None:
    held = optimizer()
    schedule = WSD(held, max_steps=4, warmup_steps=1, decay_steps=2)
    assert held.get_lr() == pytest.approx(0.4, rel=ROUNDING)
    assert schedule.step(1) == held.get_lr() == schedule.get_lr() == 0.8
    assert schedule.step(3) == pytest.approx(0.4, rel=ROUNDING)
    assert schedule.step(4) == 0.0


@pytest.mark.parametrize(
    ("max_steps", "options", "rise", "fall"),
    [
        (100, {}, 5, 10),
        (100, {"warmup_steps": 0.25, "decay_steps": 30}, 25, 30),
        (100, {"warmup_steps": 0, "decay_steps": 0.0}, 0, 0),
        (3, {"warmup_steps": 0.5, "decay_steps": 0.5}, 2, 1),
        (10, {"warmup_steps": 4, "decay_steps": 6}, 4, 6),
        (1, {}, 0, 0),
    ],
)
def test_durations_are_updates_or_fractions(
    max_steps: int, options: dict[str, Any], rise: int, fall: int
) -> None:
    schedule = WSD(optimizer(), max_steps, **options)
    assert (schedule.warmup_steps, schedule.decay_steps) == (rise, fall)
    assert schedule.lr_at(max_steps - 1) > 0.0
    assert schedule.lr_at(max_steps) == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, "max_steps: expected an integer >= 1, got 0"),
        ({"max_steps": 1.5}, "max_steps: expected an integer >= 1, got 1.5"),
        ({"max_steps": True}, "max_steps: expected an integer >= 1, got True"),
        (
            {"warmup_steps": 1.5},
            "warmup_steps: expected an integer >= 0 or a fraction below 1, got 1.5",
        ),
        (
            {"decay_steps": -1},
            "decay_steps: expected an integer >= 0 or a fraction below 1, got -1",
        ),
        (
            {"decay_steps": "10"},
            "decay_steps: expected an integer >= 0 or a fraction below 1, got '10'",
        ),
        (
            {"warmup_steps": 60, "decay_steps": 0.5},
            "expected warmup_steps + decay_steps of at most max_steps = 100, got 60 and 0.5; "
            "shorten one",
        ),
        ({"min_lr": 1.0}, "min_lr: expected a number from 0 to the learning rate 0.8, got 1.0"),
        ({"min_lr_ratio": 2}, "min_lr_ratio: expected a number from 0 to 1, got 2"),
        (
            {"min_lr": 0.1, "min_lr_ratio": 0.5},
            "min_lr: expected none beside min_lr_ratio = 0.5, got 0.1; keep one of the two",
        ),
        (
            {"decay_shape": "exponential"},
            "decay_shape: expected one of linear, sqrt, cosine, got 'exponential'",
        ),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        WSD(optimizer(), **{"max_steps": 100, **options})
    assert str(caught.value) == f"scheduler wsd: {message}"
