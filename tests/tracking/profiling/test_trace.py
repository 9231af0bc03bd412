"""The trace is what viewers read: the format, slices that nest, and every call in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from chrome_trace import Complete, check_nesting, check_trace
from hypothesis import given
from hypothesis import strategies as st

from tisslm import ops
from tisslm.tracking.profiling import Profile
from tisslm.tracking.profiling.records import Call, Share, Span, Step
from tisslm.tracking.profiling.trace import events, write_trace

WATCHED = ops.watch_regions(None)  # else: twins, or a build without OpenMP


@pytest.fixture
def trace(profile):
    return check_trace(Path(profile.path).read_text())


def slices(trace, *categories: str) -> list[Complete]:
    found = [event for event in trace.traceEvents if isinstance(event, Complete)]
    return [event for event in found if not categories or event.cat in categories]


def test_the_tracks_are_python_and_the_threads_of_the_kernels(trace):
    names = {
        event.tid: event.args["name"] for event in trace.traceEvents if event.name == "thread_name"
    }
    assert list(names.values()) == ["Python", "kernel thread 0", "kernel thread 1"]
    used = {event.tid for event in slices(trace)}
    assert used == set(names) if WATCHED else len(used) == 1


def test_a_process_whose_number_is_small_has_tracks_of_its_own(profile, monkeypatch):
    """Such as the first of a container."""
    monkeypatch.setattr("threading.get_native_id", lambda: 1)
    names = [e["tid"] for e in events(profile) if e["name"] == "thread_name"]
    assert len(set(names)) == 1 + profile.threads


def test_every_call_is_there_with_its_place_rate_and_threads(profile, trace):
    calls = [call for step in profile.steps for call in step.calls]
    python = slices(trace, "step")[0].tid
    shown = [e for e in slices(trace) if e.tid == python and e.cat not in ("step", "place")]
    assert [e.name for e in shown] == [call.operation for call in calls]
    for event, call in zip(shown, calls, strict=True):
        assert event.args["place"] == call.place
        assert event.args["bytes"] == call.nbytes
        assert event.dur * 1000 == pytest.approx(call.end - call.start, abs=125)
        seconds = (call.end - call.start) * 1e-9
        assert event.args["GB/s"] == pytest.approx(call.nbytes / seconds / 1e9, abs=6e-4)
        assert ("GFLOP/s" in event.args) == bool(call.flops)
        if WATCHED:
            assert 0 < event.args["threads busy"] <= 1
    threads = [e for e in slices(trace) if e.tid != python]
    assert len(threads) == sum(len(call.shares) for call in calls)


def test_a_product_says_its_rate_place_and_arrays(trace):
    event = next(e for e in slices(trace, "products") if "GFLOP/s" in e.args)
    assert event.args["place"] == "blocks.0.attention"
    assert event.args["direction"] == "forward"
    assert event.args["flops"] == 2 * 48 * 32 * 96
    assert event.args["arrays"] == "x_NC 48x32, w_OC 96x32, b_O 96, y_NO 48x96"


def test_what_was_recorded_with_is_said(trace):
    assert trace.otherData["threads"] == 2
    assert trace.otherData["made by"].startswith("tisslm ")
    assert trace.otherData["ops"] in ("compiled", "reference")


@st.composite
def nested_steps(draw):
    """Steps whose stamps come one after the other, each as near to the next as clocks allow."""
    now = draw(st.integers(0, 2**60))

    def tick() -> int:
        nonlocal now
        now += draw(st.integers(0, 400))
        return now

    steps = []
    for number in range(draw(st.integers(1, 3))):
        start, spans, calls = tick(), [], []
        for _ in range(draw(st.integers(0, 3))):
            span_start = tick()
            for _ in range(draw(st.integers(0, 3))):
                begin, stamps = tick(), [tick() for _ in range(4)]
                shares = (Share(0, *stamps[:2]), Share(1, *stamps[1:3]), Share(0, *stamps[2:]))
                calls.append(Call("fill", "head", "", begin, tick(), 0, 4, "x_P 1", shares))
            spans.append(Span("head", "forward", span_start, tick()))
        steps.append(Step(number, start, tick(), spans, calls))
    return steps


@given(nested_steps())
def test_slices_nest_however_the_clock_ticks(steps):
    tracks: dict[int, list[Complete]] = {}
    for event in events(Profile(threads=2, steps=steps)):
        if event["ph"] == "X":
            tracks.setdefault(event["tid"], []).append(Complete(**event))
    for found in tracks.values():
        check_nesting(found)
        for event in found:  # exact in binary, so that no reader rounds it
            assert (event.ts * 8).is_integer()
            assert (event.dur * 8).is_integer()


def test_a_disk_that_refuses_leaves_what_was_there(profile, tmp_path, monkeypatch):
    path = tmp_path / "trace.json"
    path.write_text("before")

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_trace(path, profile)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.glob(".tmp-*")] == []


# ------------------------------------------------------------------ the check can fail


def event(**changes) -> str:
    good = {"ph": "X", "name": "a", "cat": "b", "pid": 1, "tid": 2, "ts": 0.0, "dur": 1.0}
    name = {"ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "ts": 0.0}
    first = {**good, "args": {}, **changes}
    listed = [{**name, "args": {"name": "t"}}, {**good, "args": {}, "ts": 0.5, "dur": 0.25}, first]
    return json.dumps({"traceEvents": listed, "displayTimeUnit": "ms", "otherData": {}})


def test_a_good_trace_passes():
    assert len(check_trace(event()).traceEvents) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"dur": -1.0},
        {"ts": float("nan")},
        {"ph": "Z"},
        {"name": ""},
        {"tid": "2"},
        {"tid": 3},
        {"more": 1},
        {"dur": 0.625},  # into the middle of the other
    ],
)
def test_a_bad_trace_does_not(changes):
    with pytest.raises(ValueError):
        check_trace(event(**changes))


def test_two_values_of_one_key_do_not_pass():
    with pytest.raises(ValueError, match="a key is there twice"):
        check_trace('{"traceEvents": [], "traceEvents": []}')
