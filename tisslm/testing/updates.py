"""Conformance checks of updates as others need them: measured, and of parts of the parameters.

The updates themselves are checked in ``optimizer``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Optimizer
from tisslm.memory import ParameterSpec
from tisslm.memory.shards import ParameterShard
from tisslm.optim.update_norm import Movement
from tisslm.testing.checks import Checks
from tisslm.testing.examples import copied, make_parameters, set_gradients, train

__all__ = [
    "movement_is_how_far_the_parameters_moved",
    "pieces_are_updated_as_in_the_whole",
    "the_average_is_shown_and_left_exactly",
    "what_it_plans_is_what_it_keeps",
]

Array = NDArray[Any]


def movement_is_how_far_the_parameters_moved(
    checks: Checks, make: Callable[..., Optimizer]
) -> None:
    """Check that a meter is filled if the optimizer declares it, and that it changes no update."""
    for dtype in ("float32", "float64"):
        optimizer, alone = make(make_parameters(dtype)), make(make_parameters(dtype))
        parameters = optimizer.parameters
        train(optimizer, range(1))
        train(alone, range(1))
        movement = Movement(parameters)
        for seed in (1, 2):
            before = parameters.data.astype(np.float64)
            train(optimizer, range(seed, seed + 1), movement)
            train(alone, range(seed, seed + 1))
            what = "parameters, with movement asked for"
            checks.same(parameters.data, alone.parameters.data, what)
            if not optimizer.measures_movement:
                continue
            moved = math.sqrt(math.fsum(np.square(parameters.data - before)))
            size = math.sqrt(math.fsum(np.square(before)))
            for name, expected in (("update_norm", moved), ("parameter_norm", size)):
                got = np.array(getattr(movement, name))
                checks.close(got, np.array(expected), f"movement.{name} ({dtype})", 1e-9)


def the_average_is_shown_and_left_exactly(checks: Checks, make: Callable[..., Optimizer]) -> None:
    """Check that an optimizer with an average goes on as if nobody had looked at it."""
    for dtype in ("float32", "float64"):
        looked, alone = make(make_parameters(dtype)), make(make_parameters(dtype))
        checks.same(type(looked.has_average), bool, "type of has_average")
        if not looked.has_average:
            return
        checks.same(looked.shows_average, True, "shows_average at the start")
        looked.show_average(False)
        before = make_parameters(dtype)
        checks.same(looked.parameters.data, before.data, "parameters before the first update")
        for seed in range(3):
            for optimizer in (looked, alone):
                train(optimizer, range(seed, seed + 1))
                checks.same(optimizer.shows_average, False, "shows_average after an update")
            trained, state = looked.parameters.data.copy(), copied(looked.state())
            for shown in (True, False):
                looked.show_average(shown)
                checks.same(looked.shows_average, shown, "shows_average")
            checks.same(looked.parameters.data, trained, "parameters after a look at the average")
            for name, array in looked.state().items():
                checks.same(array, state[name], f"{name} after a look at the average")
        checks.same(
            looked.parameters.data, alone.parameters.data, "parameters of one not looked at"
        )
        looked.show_average(True)
        other = not np.array_equal(looked.parameters.data, alone.parameters.data)
        checks.that(other, "an average that differs from what is trained", "the same")
        checks.finite(looked.parameters.data, "average")


def what_it_plans_is_what_it_keeps(checks: Checks, make: Callable[..., Optimizer]) -> None:
    """Check that the bytes it plans for other parameters are those of its state for them."""
    specs = (ParameterSpec("w", (70, 90)), ParameterSpec("b", (70,), decay=False))
    for dtype in ("float32", "float64"):
        other = make(make_parameters(dtype, specs))
        planned = make(make_parameters(dtype)).planned(other.parameters)
        known = planned is None or isinstance(planned, Mapping)
        checks.that(known, "planned() to be a mapping or None", type(planned).__name__)
        if planned is not None:
            for name, array in other.state().items():
                checks.same(planned.get(name), array.nbytes, f"planned bytes of {name}")


#: Ranks in the example; their ranges are cut within parameters, and take turns.
RANKS = 3
LENGTH = 16


def pieces_are_updated_as_in_the_whole(checks: Checks, make: Callable[..., Optimizer]) -> None:
    """Check that ranks which share out the elements come to the same bits.

    One that needs whole parameters sets ``elementwise = False``, and ranks share out these.
    """
    whole, apart = make_parameters("float32"), make_parameters("float32")
    expected = make(whole)
    checks.same(type(expected.elementwise), bool, "type of elementwise")
    shaped, size = not expected.elementwise, apart.data.size
    starts = sorted(p.offset for p in apart if p.trainable) if shaped else range(0, size, LENGTH)
    ranges = list(pairwise([*starts, size]))
    shards = [ParameterShard(apart, ranges[rank::RANKS], shaped=shaped) for rank in range(RANKS)]
    for shard in shards:
        shard.read()
    optimizers = [make(shard) for shard in shards]
    for seed in range(3):
        set_gradients(whole, seed)
        expected.step()
        for shard, optimizer in zip(shards, optimizers, strict=True):
            for (start, stop), piece in shard.pieces(shard.grad):
                piece[...] = whole.grad[start:stop]
            optimizer.step()
            shard.write()
    checks.same(apart.data, whole.data, "parameters of three ranks (or set elementwise = False)")
    for name, array in expected.state().items():
        if "/" in name:
            if shaped:
                states = [optimizer.state() for optimizer in optimizers]
                got = [state[name] for state in states if name in state]
                checks.same(len(got), 1, f"ranks that have state {name}")
                checks.same(got[0], array, f"state {name} of three ranks")
                continue
            found = np.empty(array.size, array.dtype)
            for shard, optimizer in zip(shards, optimizers, strict=True):
                _put(found, shard.elements(name.rpartition("/")[0]), optimizer.state().get(name))
            checks.same(found.reshape(array.shape), array, f"state {name} of three ranks")


def _put(whole: Array, places: Iterable[slice], piece: Array | None) -> None:
    """Write a rank's elements of a state, which follow one another, to their places."""
    taken = 0
    for place in places:
        length = place.stop - place.start
        whole[place] = np.nan if piece is None else piece[taken : taken + length]
        taken += length
