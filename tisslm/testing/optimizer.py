"""Conformance checks of optimizers: they must keep the contract ``tisslm.contracts.Optimizer``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Optimizer
from tisslm.errors import CheckpointError
from tisslm.memory import Parameters, ParameterSpec
from tisslm.testing.checks import Checks, Report, keeps_final_methods
from tisslm.testing.examples import (
    copied,
    descend,
    make_parameters,
    option_names,
    option_sets,
    set_gradients,
    train,
)
from tisslm.testing.updates import (
    movement_is_how_far_the_parameters_moved,
    pieces_are_updated_as_in_the_whole,
    the_average_is_shown_and_left_exactly,
    what_it_plans_is_what_it_keeps,
)

__all__ = ["VARIANTS", "check_optimizer"]

Array = NDArray[Any]
Make = Callable[..., Optimizer]

#: Options that reach other branches of an optimizer, tried if a class takes them.
VARIANTS: tuple[Mapping[str, Any], ...] = (
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"centered": True},
    {"momentum": 0.9, "centered": True},
)

LR = 0.01
DTYPES = ("float32", "float64")

#: float32 against float64 after a few updates, relative to the largest value: data of size 2
#: rounds by 1e-7, an update divides by a root of the gradient's square.
BOTH_TYPES = 1e-4


def check_optimizer(
    cls: type[Optimizer], *, options: Mapping[str, Any] | None = None, name: str = ""
) -> Report:
    """Check that an optimizer class keeps its contract.

    Parameters
    ----------
    cls : type
    options : mapping, optional
        Options to build it with beyond parameters and learning rate. Left out:
        ``cls.test_options``, or its defaults and well-known options one after another.
    name : str, optional
        Its name in messages.

    Returns
    -------
    Report

    Raises
    ------
    ConformanceError
        At the first assertion that fails.
    """
    checks = Checks(name or f"optimizer {cls.__name__}", Optimizer)
    checks.run(keeps_final_methods, cls)
    checks.run(options_are_keyword_only, cls)
    decays = {"weight_decay": 0.1} if "weight_decay" in option_names(cls, 2) else {}
    for chosen in option_sets(cls, options, n_given=2, variants=VARIANTS):
        built = {**decays, **chosen}

        def make(
            parameters: Parameters, lr: float = LR, built: Mapping[str, Any] = built
        ) -> Optimizer:
            return cls(parameters, lr, **built)

        for prop in PROPERTIES:
            checks.run(prop, make, options=built)
        if built.get("weight_decay"):
            checks.run(decay_shrinks_what_decays_and_nothing_else, make, options=built)
            decay = built["weight_decay"]
            checks.run(the_weight_decay_of_a_group_takes_the_place, make, decay, options=built)
    return checks.report()


def options_are_keyword_only(checks: Checks, cls: type[Optimizer]) -> None:
    """Check that options are keyword-only: ``cls(parameters, lr, 0.9)`` would not name one."""
    options = option_names(cls, 2)
    loose = [name for name, p in options.items() if p.kind is not p.KEYWORD_ONLY]
    checks.that(not loose, "options after a * in the signature", f"{loose} before it")


def starts_at_the_learning_rate_given(checks: Checks, make: Make) -> None:
    """Check that the constructor passes parameters and lr on, and changes no parameter."""
    parameters = make_parameters("float32")
    before = parameters.data.copy()
    optimizer = make(parameters, 0.03)
    checks.same((optimizer.get_lr(), optimizer.base_lr), (0.03, 0.03), "lr and base_lr")
    checks.that(optimizer.parameters is parameters, "the parameters given", "others")
    checks.same(parameters.data, before, "parameters")


def lowers_a_quadratic(checks: Checks, make: Make) -> None:
    """Check that ``sum (p - target)^2 / 2`` falls well below its initial value in 60 updates."""
    for dtype in DTYPES:
        start, end = descend(make(make_parameters(dtype)), 60)
        checks.that(end < 0.9 * start, f"a loss below 0.9 of {start:.6g} ({dtype})", f"{end:.6g}")


def never_touches_the_gradients(checks: Checks, make: Make) -> None:
    """Check that ``step`` reads the gradients and changes no bit of them."""
    for dtype in DTYPES:
        optimizer = make(make_parameters(dtype))
        for seed in range(2):
            optimizer.zero_grad()
            set_gradients(optimizer.parameters, seed)
            before = optimizer.parameters.grad.copy()
            optimizer.step()
            checks.same(optimizer.parameters.grad_arena, before, "gradients after step")


def moves_the_parameters_but_not_frozen_ones_or_padding(checks: Checks, make: Make) -> None:
    """Check that every trainable parameter moves, and frozen data and padding stay."""
    for dtype in DTYPES:
        parameters = make_parameters(dtype)
        before = {p.name: p.data.copy() for p in parameters}
        train(make(parameters), range(3))
        inside = np.zeros(parameters.data.size, dtype=bool)
        for p in parameters:
            if p.trainable:
                inside[p.offset : p.offset + p.data.size] = True
                moved = bool((p.data != before[p.name]).any())
                checks.that(moved, f"{p.name} to move ({dtype})", "no change in 3 updates")
            else:
                checks.same(p.data, before[p.name], p.name)
        checks.finite(parameters.data, "parameters")
        padding = parameters.data[~inside]
        checks.that(not padding.any(), "padding that stays zero", f"{padding[padding != 0][:1]}")


def a_learning_rate_of_zero_moves_nothing(checks: Checks, make: Make) -> None:
    """Check that with lr 0 neither gradient nor decay changes parameters, and later rates do."""
    parameters = make_parameters("float32")
    optimizer = make(parameters)
    before = parameters.data.copy()
    optimizer.set_lr(0.0)
    train(optimizer, range(2))
    checks.close(parameters.data, before, "parameters", 0.0)
    optimizer.set_lr(LR)
    checks.same(optimizer.get_lr(), LR, "lr")
    train(optimizer, range(2, 4))
    checks.that(not np.array_equal(parameters.data, before), "a change after set_lr", "none")


def lr_scale_multiplies_the_learning_rate(checks: Checks, make: Make) -> None:
    """Check that a parameter with lr_scale 0.5 moves as one with half the learning rate."""
    results = []
    for scale, lr in ((0.5, LR), (1.0, LR / 2)):
        parameters = make_parameters("float64", (ParameterSpec("w", (20, 3), lr_scale=scale),))
        train(make(parameters, lr), range(3))
        results.append(parameters.data)
    checks.close(results[0], results[1], "parameters", 1e-12)


def a_scale_free_update_is_as_long_for_larger_gradients(checks: Checks, make: Make) -> None:
    """Check that ``scale_free`` is said of updates only that gradients cannot make longer."""
    results = []
    for scale in (1.0, 1024.0):
        parameters = make_parameters("float64", (ParameterSpec("w", (20, 3), decay=False),))
        optimizer = make(parameters)
        for seed in range(3):
            optimizer.zero_grad()
            set_gradients(parameters, seed)
            parameters.scale_grad(scale)
            optimizer.step()
        results.append(parameters.data.copy())
    near = bool(np.allclose(results[1], results[0], rtol=1e-4))
    checks.that(
        near or not optimizer.scale_free, "the same update of gradients times 1024", "another"
    )


def decay_shrinks_what_decays_and_nothing_else(checks: Checks, make: Make) -> None:
    """Check that without gradients weight_decay shrinks matrices and nothing else."""
    for dtype in DTYPES:
        parameters = make_parameters(dtype)
        before = {p.name: p.data.copy() for p in parameters}
        optimizer = make(parameters)
        optimizer.zero_grad()
        optimizer.step()
        for p in parameters:
            if p.decay and p.trainable:
                shrunk = bool((np.abs(p.data) < np.abs(before[p.name])).all())
                checks.that(shrunk, f"{p.name} nearer to zero ({dtype})", "not all of it")
            else:
                checks.same(p.data, before[p.name], p.name)


def the_weight_decay_of_a_group_takes_the_place(checks: Checks, make: Make, decay: float) -> None:
    """Check that a weight decay of its own acts on a parameter in place of the optimizer's."""

    def moved(**how: Any) -> Array:
        parameters = make_parameters("float64", (ParameterSpec("w", (20, 3), **how),))
        train(make(parameters), range(3))
        return parameters.data

    usual = moved()
    where = f"parameters, of an optimizer whose weight_decay is {decay}, with"
    checks.close(
        moved(decay=False, weight_decay=decay), usual, f"{where} group.weight_decay {decay}", 1e-12
    )
    checks.close(
        moved(weight_decay=0.0), moved(decay=False), f"{where} group.weight_decay 0", 1e-12
    )
    other = not np.array_equal(moved(weight_decay=3 * decay), usual)
    checks.that(other, f"other {where} group.weight_decay {3 * decay:.6g}", "the same")


def both_ways_of_clipping_give_the_same_bits(checks: Checks, make: Make) -> None:
    """Check that a pending scale equals scaling the gradients, and holds for one update."""
    for dtype in DTYPES:
        pending, apart = make(make_parameters(dtype)), make(make_parameters(dtype))
        for seed, scale in enumerate((0.123456789, 1.0, 0.7)):
            for optimizer in (pending, apart):
                optimizer.zero_grad()
                set_gradients(optimizer.parameters, seed)
            if scale != 1.0:
                before = pending.parameters.grad.copy()
                pending.scale_next_step(scale)
                apart.parameters.scale_grad(scale)
            pending.step()
            apart.step()
            checks.same(pending.parameters.data, apart.parameters.data, "parameters")
            expected = apart.state()
            for name, array in pending.state().items():
                checks.same(np.asarray(array), np.asarray(expected[name]), name)
            if scale != 1.0 and pending.takes_grad_scale:
                checks.same(pending.parameters.grad_arena, before, "gradients after step")


def a_gradient_that_nobody_wrote_is_zero(checks: Checks, make: Make) -> None:
    """Check that after zero_grad, which writes nothing, an update ignores old gradients."""
    stale, fresh = make(make_parameters("float32")), make(make_parameters("float32"))
    for optimizer in (stale, fresh):
        train(optimizer, range(1))
        before = optimizer.parameters.grad_arena.copy()
        optimizer.zero_grad()
        checks.same(optimizer.parameters.grad_arena, before, "memory of the gradients")
    fresh.parameters.grad_arena[...] = 0.0
    for optimizer in (stale, fresh):
        optimizer.parameters["up.weight"].grad_to_write()[0][...] = 0.5
        optimizer.step()
    checks.same(stale.parameters.data, fresh.parameters.data, "parameters")


def state_names_are_those_of_the_contract(checks: Checks, make: Make) -> None:
    """Check that the state has numeric arrays named ``<parameter>/<slot>`` or ``<slot>``."""
    optimizer = make(make_parameters("float32"))
    train(optimizer, range(1))
    state = optimizer.state()
    checks.that(isinstance(state, dict), "state() to be a dict", type(state).__name__)
    trainable = {p.name for p in optimizer.parameters if p.trainable}
    for name, array in state.items():
        owner, slash, slot = name.rpartition("/")
        fits = bool(slot) and (owner in trainable if slash else True)
        checks.that(fits, "a name <parameter>/<slot> or <slot>", repr(name))
        numeric = isinstance(array, np.ndarray) and array.dtype.kind in "fiub"
        checks.that(numeric, f"{name} to be a numeric array", type(array).__name__)


def a_restored_state_goes_on_with_the_same_bits(checks: Checks, make: Make) -> None:
    """Check that three updates after loading equal those of the run that was saved."""
    for dtype in DTYPES:
        whole = make(make_parameters(dtype))
        train(whole, range(3))
        saved, data = copied(whole.state()), whole.parameters.data.copy()
        train(whole, range(3, 6))
        resumed = make(make_parameters(dtype))
        train(resumed, (17, 18))  # a state that loading must overwrite whole
        resumed.load_state(saved)
        resumed.parameters.data[...] = data
        resumed.parameters.updates = 3
        for name, array in resumed.state().items():
            checks.same(array, saved[name], f"{name} after load_state")
        train(resumed, range(3, 6))
        checks.same(resumed.parameters.data, whole.parameters.data, "resumed parameters")
        for name, array in whole.state().items():
            checks.same(resumed.state()[name], np.asarray(array), f"resumed {name}")


def a_state_that_does_not_fit_is_refused(checks: Checks, make: Make) -> None:
    """Check that unknown and missing names raise a CheckpointError, and change nothing."""
    optimizer = make(make_parameters("float32"))
    train(optimizer, range(1))
    before = copied(optimizer.state())
    wrong = [{**before, "nowhere/nothing": np.ones(3)}]
    if before:
        wrong.append(dict(list(before.items())[1:]))
    for state in wrong:
        checks.raises(CheckpointError, partial(optimizer.load_state, state), "another state")
    for name, array in optimizer.state().items():
        checks.same(array, before[name], f"{name} after a refused state")


def float32_and_float64_agree(checks: Checks, make: Make) -> None:
    """Check that the same gradients give the same updates in both types."""
    moved = []
    for dtype in DTYPES:
        optimizer = make(make_parameters(dtype))
        train(optimizer, range(3))
        checks.same(str(optimizer.parameters.data.dtype), dtype, "data type")
        moved.append({p.name: p.data for p in optimizer.parameters})
    for name, expected in moved[1].items():
        checks.close(moved[0][name], expected, name, BOTH_TYPES)


PROPERTIES: tuple[Callable[[Checks, Make], None], ...] = (
    starts_at_the_learning_rate_given,
    lowers_a_quadratic,
    never_touches_the_gradients,
    moves_the_parameters_but_not_frozen_ones_or_padding,
    a_learning_rate_of_zero_moves_nothing,
    lr_scale_multiplies_the_learning_rate,
    a_scale_free_update_is_as_long_for_larger_gradients,
    both_ways_of_clipping_give_the_same_bits,
    a_gradient_that_nobody_wrote_is_zero,
    state_names_are_those_of_the_contract,
    a_restored_state_goes_on_with_the_same_bits,
    a_state_that_does_not_fit_is_refused,
    float32_and_float64_agree,
    movement_is_how_far_the_parameters_moved,
    pieces_are_updated_as_in_the_whole,
    the_average_is_shown_and_left_exactly,
    what_it_plans_is_what_it_keeps,
)
