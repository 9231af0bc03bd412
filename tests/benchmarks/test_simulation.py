"""Simulated threads: the arithmetic on known loops, and the stamps of an update that is made."""

from __future__ import annotations

import dataclasses

import pytest

from tisslm import ops

WATCHED = ops.watch_regions(None)  # else: twins, or a build without OpenMP


@pytest.fixture
def made(script):
    """An update of two calls on four threads, and the same on one; seconds by hand."""
    simulation = script("simulation")
    loop, call, update = simulation.Loop, simulation.Call, simulation.Update
    calls = [call("a", 80, 2, 1.0), call("b", 0, 1, 0.0)]
    four = update(4, 3.0, [loop(4, 8.0, 2.0), loop(4, 4.0, 3.0), loop(1, 0.5, 0.5)], calls)
    one = update(1, 3.0, [loop(1, 8.0, 8.0), loop(1, 3.0, 3.0), loop(1, 0.5, 0.5)], calls)
    return four, one


def test_parts_go_to_the_first_thread_that_is_free(script):
    makespan = script("simulation").makespan
    assert makespan([3.0, 1.0, 1.0, 1.0], 2) == 3.0
    assert makespan([1.0, 1.0, 3.0], 2) == 4.0
    assert makespan([1.0, 2.0], 5) == 2.0


def test_a_loop_takes_what_its_slowest_thread_takes(script, made):
    simulation = script("simulation")
    many, one = (simulation.simulate(u, simulation.Machine(0.25)) for u in made)
    assert many.slowest == 5.0
    assert many.serial == 3.0 + 0.5  # a loop of one thread is not shared
    assert many.barriers == 2 * 0.25 * 2  # two loops, twice what it is on two threads
    assert many.seconds == 9.5
    assert one.seconds == 3.0 + 11.5
    assert many.efficiency(one) == pytest.approx(14.5 / (4 * 9.5))


def test_the_causes_of_a_loss_add_up_to_it(script, made):
    simulation = script("simulation")
    many, one = (simulation.simulate(u, simulation.Machine(0.25, 10.0)) for u in made)
    losses = many.losses(one)
    assert sum(losses.values()) == pytest.approx(1 - many.efficiency(one))
    assert losses["imbalance"] == pytest.approx((20 - 12) / (4 * many.seconds))
    assert sum(row[-1] for row in simulation.worst(many, one, 9)) == pytest.approx(
        1 - many.efficiency(one)
    )


def test_memory_bounds_a_call_from_below(script, made):
    simulation = script("simulation")
    four, one = made
    assert simulation.simulate(four, simulation.Machine(0.0, 16.0)).memory == 0  # 80 bytes in 5 s
    assert simulation.simulate(four, simulation.Machine(0.0, 10.0)).memory == 3.0
    assert simulation.simulate(one, simulation.Machine(0.0, 1.0)).memory == 0  # it was measured


def test_an_update_survives_the_pipe(script, made):
    simulation = script("simulation")
    assert simulation.Update.from_json(made[0].as_json()) == made[0]


def test_what_is_outside_of_loops_may_be_another_updates(script, made):
    four, one = made
    found = four.with_serial_of(dataclasses.replace(one, serial=2.0))
    assert (found.serial, found.loops) == (2.0, four.loops)
    with pytest.raises(ValueError, match="not those of another"):
        four.with_serial_of(dataclasses.replace(one, calls=one.calls[:1]))


def test_a_threads_share_has_the_same_calls_and_smaller_matrices(script):
    simulated, sizes = script("simulated"), script("sizes")
    llama = sizes.NAMED["smollm2-135m-4x256"]
    assert simulated.a_threads_share(llama, 2) == llama
    small = simulated.a_threads_share(llama, 64)
    assert (small.n_embd, small.family.n_hidden) == (9 * 8, 192)
    assert (small.n_layer, small.n_head, small.tokens) == (30, 9, 1024)


@pytest.mark.skipif(not WATCHED, reason="twins, or a build without OpenMP: no threads to watch")
def test_an_update_is_stamped_on_more_threads_than_there_are_cores(script):
    stamps, simulation, np = script("stamps"), script("simulation"), pytest.importorskip("numpy")
    x, w = np.ones((300, 64), "f4"), np.ones((200, 64), "f4")
    y = np.empty((300, 200), "f4")

    def update() -> None:
        ops.linear_forward(x, w, None, y)  # parts that are shared out while it runs
        ops.scale(y.reshape(-1), 2.0)  # four blocks of 16384, one to a thread

    ops.set_threads(7)
    try:
        stamper = stamps.Stamper(7, update)
        stamper.stamp(3)
        found = stamper.reduced()
    finally:
        ops.set_threads(None)
    assert [(call.operation, call.loops) for call in found.calls] == [
        ("linear_forward 200x64", 1),
        ("scale", 1),
    ]
    product, scaled = found.loops
    assert product.threads == scaled.threads == 7
    assert 0 < product.slowest <= product.work <= 7 * product.slowest
    assert 0 < scaled.slowest < scaled.work  # by several threads
    assert found.serial > 0
    assert simulation.simulate(found, simulation.Machine(0.0)).seconds > 0
