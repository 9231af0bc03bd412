"""Every norm of the built-in layers, as a problem: a new one is checked once it has a name.

So are the norms of queries and keys, which are operations of attention's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
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
    for name, whole in {"head_norm": False, "head_norm_whole": True}.items():
        cases.append(Case(name, "kernel", partial(head_norm, whole=whole), limit=64))
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


def head_norm(dtype: str, large: bool, *, whole: bool) -> Problem:
    """Make the norms of queries and keys: of each head, or over all heads."""
    n_head, n_kv_head, size = (4, 2, 70) if large else (3, 1, 4)
    b, t = (3, 50) if large else (2, 3)
    heads, n = (n_head, n_kv_head), b * t
    widths = [h * size for h in heads] if whole else [size, size]
    qkv = draw("qkv", (b, t, (n_head + 2 * n_kv_head) * size)).astype(dtype)
    gammas = [(1 + draw(f"gamma {i}", (w,), 0.25)).astype(dtype) for i, w in enumerate(widths)]
    gamma_q, gamma_k = gammas
    rstd = empty(dtype, n, 2 if whole else sum(heads))

    def forward() -> Arrays:
        out = np.full_like(qkv, np.nan)
        ops.head_norm_forward(qkv, gamma_q, gamma_k, rstd, out, *heads, 1e-5)
        return {"out_BTE": out}

    def once(d: Arrays, fill: float, accumulate: bool, in_place: bool) -> list[Array]:
        dout, dgammas = d["out_BTE"].copy(), [np.full_like(g, fill) for g in gammas]
        dqkv, scratch = np.full_like(qkv, np.nan), empty(dtype, -(-n // 64), sum(widths))
        dqkv = dout if in_place else dqkv
        rest: Any = (*dgammas, scratch, *heads, accumulate)
        ops.head_norm_backward(dout, qkv, gamma_q, gamma_k, rstd, dqkv, *rest)
        return [dqkv, *dgammas]

    def backward(d: Arrays) -> Arrays:
        names = ("qkv_BTE", "gamma_q", "gamma_k")
        found = dict(zip(names, once(d, np.nan, False, False), strict=True))
        in_place, more_q, more_k = once(d, 1.0, True, True)
        found["qkv_BTE (in place)"] = in_place
        return {**found, "gamma_q (added)": more_q - 1, "gamma_k (added)": more_k - 1}

    values = {"qkv_BTE": qkv, "gamma_q": gamma_q, "gamma_k": gamma_k}
    return KernelProblem(values, forward, backward)
