"""The cost of sinks and monitors: runs in turns, and bits that must be the same."""

from __future__ import annotations

import pytest


@pytest.fixture
def plan(script):
    monitors, sizes = script("monitors"), script("sizes")
    return monitors.Plan(sizes.parse_size("1,2,16,11,2,8"), "fp32", True, 4, 2, 2)


def test_runs_take_turns_and_have_the_same_bits(script, plan):
    monitors = script("monitors")
    registry = monitors.load_registry()
    found = monitors.measure(plan, registry, 1)
    assert len(found["all"].runs) == len(found["none"].runs) == 1
    assert len(found["all"].looks) == 2
    assert found["none"].looks == []
    figures = monitors.report(plan, found)
    assert figures["looks_cost"] == pytest.approx(figures["look_in_steps"] / 2)


def test_other_bits_stop_the_benchmark(script, plan, monkeypatch):
    monitors = script("monitors")

    def run(plan, registry, which, times):
        times.runs.append(1.0)
        return which.encode()

    monkeypatch.setattr(monitors, "run_once", run)
    with pytest.raises(monitors.BitsDifferError, match="round 1: all has other parameters"):
        monitors.measure(plan, None, 1)
