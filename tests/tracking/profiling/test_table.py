"""The table says what was recorded, to the digit."""

from __future__ import annotations

from tisslm.tracking.profiling import Profile
from tisslm.tracking.profiling.records import OUTSIDE, Call, Share, Span, Step

MS = 10**6


def call(op: str, place: str, way: str, start: int, end: int, **work: int) -> Call:
    """Return a call on two threads, of which the second works half of the time."""
    middle = (start + end) // 2
    shares = (Share(0, start, end), Share(1, start, middle))
    counted = {"flops": 0, "nbytes": 0, **work}
    return Call(op, place, way, start, end, arrays="", shares=shares, **counted)


def step(number: int, start: int) -> Step:
    """Return a step of 10 ms: 1 ms of waiting, 4 ms in two layers, 5 ms of the rest."""

    def at(ms: float) -> int:
        return start + round(ms * MS)

    spans = [
        Span("batch", "", at(0), at(1)),
        Span("blocks.0.mlp", "forward", at(1), at(3)),
        Span("blocks.1.mlp", "forward", at(3), at(5)),
    ]
    calls = [
        call("linear_forward", "blocks.0.mlp", "forward", at(1), at(3), flops=4 * MS, nbytes=1),
        call("linear_forward", "blocks.1.mlp", "forward", at(3), at(4), flops=2 * MS, nbytes=1),
        call("adam_update", OUTSIDE, "", at(6), at(9), nbytes=6 * MS),
    ]
    return Step(number, at(0), at(10), spans, calls)


EXPECTED = """\
profile of steps 4 to 5: 10.00 ms each on 2 threads; without the profile, steps before took 9.00 ms

kernel                              ms   share   calls     rate          threads busy
linear_forward                   3.000   30.0%       2      2.0  GFLOP/s        75.0%
adam_update                      3.000   30.0%       1      2.0  GB/s           75.0%
all kernels                      6.000   60.0%
the rest (Python)                4.000   40.0%

place                               ms   share   times  in kernels
batch                            1.000   10.0%       1        0.0%
mlp forward                      4.000   40.0%       2       75.0%
update and the rest              5.000   50.0%       1       60.0%"""


def test_the_table_of_two_steps():
    steps = [step(4, 0), step(5, 100 * MS)]
    profile = Profile(threads=2, steps=steps, plain=[0.008, 0.010])
    assert profile.table() == EXPECTED


def test_the_headline_of_one_step_without_others_before():
    profile = Profile(threads=1, steps=[step(1, 0)])
    assert profile.table().splitlines()[0] == "profile of step 1: 10.00 ms on 1 thread"
    profile.plain = [0.004]
    expected = "; without the profile, the step before took 4.00 ms"
    assert profile.table().splitlines()[0].endswith(expected)


def test_a_place_within_a_place_counts_once():
    outer, inner = Span("head", "backward", 0, 8 * MS), Span("head", "forward", 2 * MS, 5 * MS)
    found = Profile(threads=1, steps=[Step(1, 0, 10 * MS, [inner, outer], [])]).table()
    rows = [line.split() for line in found.splitlines() if line.startswith(("head", "update"))]
    assert rows == [
        ["head", "backward", "5.000", "50.0%", "1", "0.0%"],
        ["head", "forward", "3.000", "30.0%", "1", "0.0%"],
        ["update", "and", "the", "rest", "2.000", "20.0%", "1", "0.0%"],
    ]


def test_twins_have_no_threads_to_say():
    alone = Call("linear_forward", OUTSIDE, "", 0, MS, 5 * MS, 1, "", ())
    row = Profile(threads=2, steps=[Step(1, 0, MS, [], [alone])]).table().splitlines()[3]
    assert row.split() == ["linear_forward", "1.000", "100.0%", "1", "5.0", "GFLOP/s"]


def test_rows_of_a_real_run_add_up_to_the_step(profile):
    lines = profile.table().splitlines()
    kernels, places = lines[3 : lines.index("")], []
    cut = [i for i, line in enumerate(lines) if not line]
    kernels, places = lines[cut[0] + 2 : cut[1]], lines[cut[1] + 2 :]
    whole = sum(step.end - step.start for step in profile.steps) / len(profile.steps) / MS

    def ms(rows):
        return sum(float(row[28:38]) for row in rows)

    inside = float(kernels[-2][28:38])
    assert abs(ms(kernels[:-2]) - inside) < 0.02
    assert abs(inside + float(kernels[-1][28:38]) - whole) < 0.02
    assert abs(ms(places) - whole) < 0.02
