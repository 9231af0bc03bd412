"""Every norm of the built-in layers, as a problem: a new one is checked once it has a name."""

from __future__ import annotations

from functools import partial
from typing import Any

from numpy.typing import NDArray

from tisslm.memory import Parameters
from tisslm.models.layers.norm import NORMS, NormKind
from tisslm.testing.gradients.kernels import KernelProblem, empty
from tisslm.testing.gradients.layers import buffers, fresh_gradients
from tisslm.testing.gradients.problem import Case, Problem, draw

__all__ = ["norm_cases"]

Array = NDArray[Any]
Arrays = dict[str, Array]

#: What the formulas call a norm's parameters.
_LETTERS = {"weight": "gamma_C", "bias": "beta_C"}


def norm_cases() -> list[Case]:
    """Return each norm's cases: one more where it may be without bias."""
    cases = []
    for name, kind in NORMS.items():
        biases = {"": True, "_unbiased": False}
        if len(list(kind.parameters("norm", 1, True))) == 1:
            del biases["_unbiased"]
        for suffix, bias in biases.items():
            make = partial(norm, kind=kind, bias=bias)
            cases.append(Case(f"{name}_norm{suffix}", "kernel", make, limit=64))
    return cases


def norm(dtype: str, large: bool, *, kind: NormKind, bias: bool) -> Problem:
    """Make a norm of the built-in layers: with bias and beside a residual connection, or without.

    The class makes the calls, for it alone knows their arguments.
    """
    n, c = (130, 300) if large else (4, 6)
    x, kept = (0.5 + draw("x", (n, c))).astype(dtype), empty(dtype, n, c)
    parameters = Parameters(kind.parameters("norm", c, bias), dtype)
    named = {_LETTERS[p.name.rpartition(".")[2]]: p for p in parameters}
    for name, p in named.items():
        centre, size = (1, 0.25) if name == "gamma_C" else (0, 1.0)
        p.data[...] = centre + draw(name.removesuffix("_C"), p.shape, size)
    made = kind.over(parameters, "norm", 1e-5)
    plan = made.plan(n, dtype)
    saved, scratch = buffers(plan, "saved"), buffers(plan, "scratch")

    def forward() -> Arrays:
        y = empty(dtype, n, c)
        made.forward(x, kept, y, saved)
        return {"y_NC": y, "stream_NC": x.copy()} if bias else {"y_NC": y}

    def once(d: Arrays) -> Arrays:
        dx = empty(dtype, n, c)
        made.backward(d["y_NC"], kept, d.get("stream_NC"), dx, saved, scratch)
        return {"x_NC": dx, **{name: p.grad.copy() for name, p in named.items()}}

    def backward(d: Arrays) -> Arrays:
        fresh_gradients(parameters)
        found = once(d)
        for p in named.values():
            p.grad[...] = 1.0
        more = once(d)
        return {**found, **{f"{name} (added)": more[name] - 1 for name in named}}

    return KernelProblem({"x_NC": x, **{k: p.data for k, p in named.items()}}, forward, backward)
