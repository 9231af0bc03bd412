"""Conformance checks of layers: they must keep the contract ``tisslm.contracts.Layer``.

Embeddings and heads of the built-in models are checked in ``gradients``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tisslm.contracts import Layer
from tisslm.memory import Parameters
from tisslm.testing.checks import Checks, Report, keeps_final_methods
from tisslm.testing.differences import FLOAT64, Tally
from tisslm.testing.gradients.layers import LayerProblem
from tisslm.testing.gradients.problem import FLOAT32, compare_types, differentiate

__all__ = ["check_layer"]

#: ``make(dtype)`` returns the layer and the parameters that it works on.
MakeLayer = Callable[[str], tuple[Layer, Parameters]]
Problem = Callable[..., LayerProblem]

#: Two ways to the same number in float64, a few roundings each.
ROUNDING = 1e-12


def check_layer(
    make: MakeLayer, *, channels: int, shape: tuple[int, int] = (2, 5), name: str = ""
) -> Report:
    """Check that a layer keeps its contract, in float64 and in float32.

    Parameters
    ----------
    make : callable
        ``make(dtype)`` builds the layer and returns it with its ``Parameters``, whose values are
        then drawn anew.
    channels : int
        C of the residual stream.
    shape : tuple of int
        B and T of the pass.
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
    checks = Checks(name or f"layer {type(make('float64')[0]).__name__}", Layer)
    checks.run(keeps_final_methods, type(make("float64")[0]))

    def problem(dtype: str = "float64", train: bool = True) -> LayerProblem:
        layer, parameters = make(dtype)
        return LayerProblem(layer, parameters, channels, shape, train=train)

    for prop in PROPERTIES:
        checks.run(prop, problem)
    return checks.report()


def plan_names_buffers(checks: Checks, problem: Problem) -> None:
    """Check that every buffer is saved or scratch, and that a smaller pass needs no more bytes."""
    layer = problem().layer
    whole, small = layer.plan((2, 5)), layer.plan((1, 3))
    for name, buffer in whole.items():
        checks.that(buffer.kind in ("saved", "scratch"), f"{name}: saved or scratch", buffer.kind)
        checks.that(small[name].nbytes <= buffer.nbytes, f"{name}: no more for less", "more")
    checks.same(sorted(small), sorted(whole), "names of buffers")


def gradients_are_those_of_central_differences(checks: Checks, problem: Problem) -> None:
    """Check the gradients by the stream and all parameters in float64, with and without dropout."""
    for train in (True, False):
        tally = Tally()
        differentiate(tally, problem(train=train))
        checks.n_assertions += tally.n_checked
        checks.that(tally.error < FLOAT64, f"an error below {FLOAT64:g}", tally.worst)


def float32_and_float64_agree(checks: Checks, problem: Problem) -> None:
    """Check that outputs and gradients are the same numbers in both types."""
    tally = Tally()
    compare_types(tally, problem("float32"), problem("float64"))
    checks.n_assertions += tally.n_checked
    checks.that(tally.error < FLOAT32, f"an error below {FLOAT32:g}", tally.worst)


def a_pass_repeats_to_the_bit(checks: Checks, problem: Problem) -> None:
    """Check that the same input and context give the same bits, dropout included."""
    for dtype in ("float32", "float64"):
        one, other = problem(dtype), problem(dtype)
        for what in ("outputs", "gradients"):
            first = {k: np.array(v) for k, v in getattr(one, what)().items()}
            getattr(other, what)()
            for results in (getattr(one, what)(), getattr(other, what)()):
                for name, array in results.items():
                    checks.same(array, first[name], f"{what}: {name}")


def parameter_gradients_accumulate(checks: Checks, problem: Problem) -> None:
    """Check that a second backward adds to the parameters' gradients, except after zero_grad."""
    one = problem()
    single = {k: np.array(v) for k, v in one.gradients().items()}
    one.pass_backward()
    for parameter in one.parameters:
        if parameter.trainable:
            expected = 2.0 * single[parameter.name]
            checks.close(parameter.grad, expected, f"{parameter.name}, twice", ROUNDING)
    for name, gradient in one.gradients().items():
        checks.close(gradient, single[name], f"{name} after zero_grad", ROUNDING)


PROPERTIES: tuple[Callable[[Checks, Problem], None], ...] = (
    plan_names_buffers,
    gradients_are_those_of_central_differences,
    float32_and_float64_agree,
    a_pass_repeats_to_the_bit,
    parameter_gradients_accumulate,
)
