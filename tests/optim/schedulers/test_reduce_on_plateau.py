"""The rate that falls when evaluations get no better."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.errors import ConfigError
from tisslm.optim.schedulers import ReduceOnPlateau


def rates(scheduler, losses, *, first=1, metric="eval/loss"):
    """Evaluate after each update, and return the rates of the updates that follow."""
    found = []
    for step, loss in enumerate(losses, first):
        scheduler.step(step)
        scheduler.observe({metric: loss, "eval/perplexity": math.exp(min(loss, 700.0))})
        found.append(scheduler.step(step))
    return found


def test_the_rate_falls_after_patience_evaluations_without_a_better_one(idle):
    scheduler = ReduceOnPlateau(idle(1.0), factor=0.5, patience=2, min_delta=0.0)
    losses = [5.0, 4.0, 4.0, 4.5, 3.0, 3.1, 3.2, 3.3, 3.4]
    assert rates(scheduler, losses) == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_an_improvement_must_exceed_min_delta(idle):
    scheduler = ReduceOnPlateau(idle(1.0), factor=0.5, patience=1, min_delta=0.25)
    assert rates(scheduler, [5.0, 4.75, 4.5, 4.0]) == [1, 0.5, 0.5, 0.5]


def test_more_is_better_where_the_mode_says_so(idle):
    scheduler = ReduceOnPlateau(
        idle(1.0), factor=0.5, patience=1, metric="eval/accuracy", mode="max"
    )
    assert rates(scheduler, [0.1, 0.2, 0.15, 0.3], metric="eval/accuracy") == [1, 1, 0.5, 0.5]


def test_nothing_is_counted_while_it_cools_down(idle):
    scheduler = ReduceOnPlateau(idle(1.0), factor=0.5, patience=2, cooldown=2)
    assert rates(scheduler, [5.0] * 9) == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_a_better_one_while_it_cools_down_is_the_one_to_beat(idle):
    scheduler = ReduceOnPlateau(idle(1.0), factor=0.5, patience=1, cooldown=1)
    assert rates(scheduler, [5.0, 6.0, 4.0, 4.5]) == [1, 0.5, 0.5, 0.25]


def test_the_rate_stays_above_the_minimum(idle):
    scheduler = ReduceOnPlateau(idle(1.0), factor=0.1, patience=1, min_lr=0.05)
    assert rates(scheduler, [5.0] * 5) == [1, 0.1, 0.05, 0.05, 0.05]


def test_it_rises_first(idle):
    scheduler = ReduceOnPlateau(idle(1.0), warmup_steps=3)
    assert [scheduler.lr_at(step) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


def test_a_value_that_is_not_finite_is_no_improvement(idle):
    scheduler = ReduceOnPlateau(idle(1.0), factor=0.5, patience=2)
    assert rates(scheduler, [math.nan, -math.inf, 9.0, 8.0]) == [1, 0.5, 0.5, 0.5]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    losses=st.lists(st.sampled_from([1.0, 2.0, 2.05, 3.0]), min_size=1, max_size=20),
    cut=st.integers(0, 20),
    patience=st.integers(1, 3),
    cooldown=st.integers(0, 2),
)
def test_cut_anywhere_and_restored_it_decides_as_if_it_was_not(
    idle, losses, cut, patience, cooldown
):
    options = {"factor": 0.5, "patience": patience, "cooldown": cooldown, "min_delta": 0.1}
    whole = rates(ReduceOnPlateau(idle(1.0), **options), losses)
    first = ReduceOnPlateau(idle(1.0), **options)
    begun = rates(first, losses[:cut])
    second = ReduceOnPlateau(idle(1.0), **options)
    second.load_state(json.loads(json.dumps(first.state())))
    assert begun + rates(second, losses[cut:], first=cut + 1) == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 0.0}, "factor: expected a number in (0, 1], got 0.0"),
        ({"patience": 0}, "patience: expected a number of evaluations, an integer >= 1, got 0"),
        ({"metric": ""}, "metric: expected a name, got ''"),
        ({"mode": "least"}, 'mode: expected "auto" or "min" or "max", got \'least\''),
        ({"min_delta": -0.1}, "min_delta: expected a finite number >= 0, got -0.1"),
        ({"min_delta": math.inf}, "min_delta: expected a finite number >= 0, got inf"),
        ({"cooldown": True}, "cooldown: expected an integer >= 0, got True"),
        ({"min_lr": 0.2}, "min_lr: expected a number from 0 to the learning rate 0.1, got 0.2"),
        ({"warmup_steps": 0.1}, "warmup_steps: expected an integer >= 0, got 0.1"),
    ],
)
def test_a_bad_option_is_named(idle, options, message):
    with pytest.raises(ConfigError) as caught:
        ReduceOnPlateau(idle(0.1), **options)
    assert str(caught.value) == f"scheduler reduce_on_plateau: {message}"


def test_a_metric_that_is_not_measured_is_named(idle):
    scheduler = ReduceOnPlateau(idle(0.1), metric="eval/bleu")
    with pytest.raises(ConfigError) as caught:
        scheduler.observe({"eval/perplexity": 2.0, "eval/loss": 1.0})
    assert str(caught.value) == (
        "scheduler reduce_on_plateau: metric: expected a metric of the evaluations of this run, "
        'which are eval/loss, eval/perplexity, got "eval/bleu"; choose one of them'
    )


@pytest.mark.parametrize(("metric", "mode"), [("eval/loss", "min"), ("eval/accuracy", "max")])
def test_the_direction_follows_from_the_metric(idle, metric: str, mode: str):
    assert ReduceOnPlateau(idle(1.0), metric=metric).mode == mode
    assert ReduceOnPlateau(idle(1.0), metric=metric, mode="min").mode == "min"
