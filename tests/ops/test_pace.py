"""The number of threads that is fastest is found, and found again when that changes."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import ops
from tisslm.ops.pace import SAMPLES, STEPS, Pace


def run(pace: Pace, seconds: dict[int, float], steps: int) -> list[int]:
    """Make steps whose time depends on their number of threads; return these."""
    counts = []
    for _ in range(steps):
        counts.append(pace.count)
        pace.took(seconds[pace.count])
    return counts


@pytest.mark.parametrize("best", [1, 2, 4, 8])
def test_the_fastest_number_is_found_from_all_down(best):
    seconds = {count: 1.0 + abs(np.log2(count / best)) for count in (8, 4, 2, 1)}
    pace = Pace(8)
    assert run(pace, seconds, 60)[0] == 8
    assert run(pace, seconds, 1000).count(best) > 800


def test_no_more_is_tried_than_the_neighbours():
    """One thread of 64 may take 60 times as long."""
    found = run(Pace(64), {64: 1.0, 32: 1.1, 16: 3.0, 8: 6.0}, STEPS)
    assert set(found) == {64, 32}
    assert found.count(32) == SAMPLES


def test_what_is_far_slower_is_tried_once_in_a_trial():
    found = run(Pace(2), {2: 1.0, 1: 1.5}, 3 * (STEPS + 3))
    assert found.count(1) == 3
    pace = Pace(4)
    run(pace, {4: 1.0, 2: 0.8, 1: 2.0}, 20)
    assert pace.count == 2
    found = run(pace, {4: 1.0, 2: 0.8, 1: 2.0}, 10 * STEPS)
    assert found.count(1) < found.count(4)  # which is near enough to be worth three steps


def test_another_load_is_noticed():
    pace = Pace(2)
    assert run(pace, {2: 1.0, 1: 1.5}, 50)[-1] == 2
    run(pace, {2: 2.0, 1: 1.5}, STEPS + 20)
    assert pace.count == 1
    run(pace, {2: 1.0, 1: 1.5}, STEPS + 20)
    assert pace.count == 2


def test_a_step_that_was_disturbed_once_changes_nothing():
    pace = Pace(2)
    run(pace, {2: 1.0, 1: 1.5}, 3)
    pace.took(100.0)
    run(pace, {2: 1.0, 1: 1.5}, 20)
    assert pace.count == 2


def test_the_threads_of_the_process_are_given_back():
    before = ops.thread_count()
    ops.set_threads(4)
    try:
        pace, seen = Pace(), set()
        for _ in range(30):
            with pace.step():
                seen.add(ops.thread_count().count)
        with pytest.raises(ZeroDivisionError), pace.step():
            raise ZeroDivisionError
        assert ops.thread_count().count == 4
        assert {4, 2} <= seen <= {4, 2, 1}
        ops.set_threads(1)
        with pace.step():
            assert ops.thread_count().count == 1
    finally:
        ops.set_threads(before.count)
