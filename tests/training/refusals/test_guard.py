"""What is decided about a step, from values alone."""

from __future__ import annotations

import math

import pytest

from tisslm import TrainingConfig
from tisslm.training.refusals.guard import Verdict, judge

HISTORY = [2.0 + 0.01 * (i % 3) for i in range(20)]


def decide(loss=2.0, norm=1.0, refused=0, **settings):
    return judge(loss, norm, HISTORY, TrainingConfig(spike_window=20, **settings), refused)


def test_a_step_like_the_others_is_applied():
    for action in ("off", "warn", "skip", "stop"):
        assert decide(spike_action=action) == Verdict(apply=True)


@pytest.mark.parametrize("values", [(math.nan, 1.0), (2.0, math.inf), (math.inf, math.nan)])
def test_what_is_not_finite_is_refused(values):
    loss, norm = values
    what = f"the loss is {loss:.6g} and the gradient norm {norm:.6g}"
    assert decide(loss, norm) == Verdict(False, "nonfinite", what)
    assert decide(loss, norm, on_nonfinite="stop") == Verdict(False, "nonfinite", what, True)


@pytest.mark.parametrize(("refused", "stop"), [(0, False), (1, False), (2, True), (3, True)])
def test_the_last_of_so_many_in_a_row_ends_the_run(refused, stop):
    assert decide(math.nan, refused=refused, max_nonfinite=3).stop is stop
    assert decide(9.0, refused=refused, max_nonfinite=3, spike_action="skip").stop is stop


@pytest.mark.parametrize(
    ("action", "apply", "stop"),
    [("off", True, False), ("warn", True, False), ("skip", False, False), ("stop", False, True)],
)
def test_a_spike_is_what_its_action_makes_of_it(action, apply, stop):
    verdict = decide(9.0, spike_action=action)
    assert (verdict.apply, verdict.stop) == (apply, stop)
    assert verdict.kind == ("" if action == "off" else "spike")
    assert ("deviations above 2.01, the median of the last 20" in verdict.what) == (action != "off")
