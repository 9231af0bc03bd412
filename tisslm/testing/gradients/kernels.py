"""Every kernel with a backward, as a problem for the gradient checks.

What does not live here: norms (``norms``), and the losses over tiles, which ``losses`` takes from
the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.testing.gradients.problem import Case, Problem, draw, starts, stops

__all__ = ["KernelProblem", "empty", "kernel_cases"]

Array = NDArray[Any]
Arrays = dict[str, Array]

#: Seed, update, site and first row of every draw: the seed uses both halves of the key.
KEY = (2**40 + 5, 3, 2, 1)


@final
class KernelProblem(Problem):
    """A forward kernel and its backward.

    Parameters
    ----------
    values : dict of str to ndarray
    forward : callable
        A function that returns the outputs.
    backward : callable
        A function from the gradients of the outputs to those of the values.
    """

    def __init__(
        self, values: Arrays, forward: Callable[[], Arrays], backward: Callable[[Arrays], Arrays]
    ) -> None:
        self.values = values
        self._forward = forward
        self._backward = backward

    def outputs(self) -> Mapping[str, Array]:
        """Run forward."""
        return self._forward()

    def gradients(self) -> Mapping[str, Array]:
        """Run forward, then backward."""
        found = self._forward()
        return self._backward({name: self.weights(name, y) for name, y in found.items()})


def kernel_cases() -> list[Case]:
    """Return a case for each kernel and each of its variants."""
    made: dict[str, Callable[[str, bool], Problem]] = {
        "linear": linear,
        "linear_residual": linear_residual,
        **{name: partial(activation, code=code) for name, code in ops.ACTIVATIONS.items()},
        "swiglu": partial(gated, code=ops.ACTIVATIONS["silu"]),
        "geglu": partial(gated, code=ops.ACTIVATIONS["gelu"]),
        "embedding": partial(embedding, documents=False),
        "embedding_documents": partial(embedding, documents=True),
        "attention": partial(attention, n_kv_head=4, p=0.0),
        "attention_grouped": partial(attention, n_kv_head=2, p=0.2),
        "attention_documents": partial(attention, n_kv_head=2, p=0.2, documents=True),
        "attention_both": partial(attention, n_kv_head=4, p=0.0, causal=False),
        "attention_both_documents": partial(
            attention, n_kv_head=2, p=0.2, documents=True, causal=False
        ),
        "rotary": partial(rotary, documents=False),
        "rotary_documents": partial(rotary, documents=True),
        "dropout": dropout,
        "residual": residual,
        "softmax_gradient": softmax_gradient,
        "soft_cap": soft_cap,
    }
    return [Case(name, "kernel", make, limit=64) for name, make in made.items()]


def empty(dtype: str, *shape: int) -> Array:
    """Return an array full of NaN, which reveals elements that a kernel does not write."""
    return np.full(shape, np.nan, dtype=dtype)


def ones(dtype: str, *shape: int) -> Array:
    """Return an array of ones, to which a kernel is to add."""
    return np.ones(shape, dtype=dtype)


def linear(dtype: str, large: bool) -> Problem:
    """Make ``y = x w^T + b``; the large one has sums and panels that are cut into blocks."""
    n, c, o = (400, 390, 270) if large else (5, 4, 3)
    x, w, b = (draw(k, s).astype(dtype) for k, s in (("x", (n, c)), ("w", (o, c)), ("b", (o,))))

    def forward() -> Arrays:
        y = empty(dtype, n, o)
        ops.linear_forward(x, w, b, y)
        return {"y_NO": y}

    def backward(d: Arrays) -> Arrays:
        dx, dw, db = empty(dtype, n, c), empty(dtype, o, c), empty(dtype, o)
        ops.linear_backward_input(d["y_NO"], w, dx)
        ops.linear_backward_weight(d["y_NO"], x, dw, db, False)
        more_dw, more_db = ones(dtype, o, c), ones(dtype, o)
        ops.linear_backward_weight(d["y_NO"], x, more_dw, more_db, True)
        added = {"w_OC (added)": more_dw - 1, "b_O (added)": more_db - 1}
        return {"x_NC": dx, "w_OC": dw, "b_O": db, **added}

    return KernelProblem({"x_NC": x, "w_OC": w, "b_O": b}, forward, backward)


def linear_residual(dtype: str, large: bool) -> Problem:
    """Make ``h + x w^T + b``, computed in the tile of the product; h passes its gradient on."""
    n, c, o = (400, 390, 270) if large else (5, 4, 3)
    shapes = {"h_NO": (n, o), "x_NC": (n, c), "w_OC": (o, c), "b_O": (o,)}
    values = {name: draw(name[0], shape).astype(dtype) for name, shape in shapes.items()}
    h, x, w, b = values.values()

    def forward() -> Arrays:
        total = h.copy()
        ops.linear_residual_forward(x, w, b, total)
        return {"total_NO": total}

    def backward(d: Arrays) -> Arrays:
        dy = d["total_NO"]
        dx, dw, db = empty(dtype, n, c), empty(dtype, o, c), empty(dtype, o)
        ops.linear_backward(dy, w, x, dx, dw, db, False)
        return {"h_NO": dy, "x_NC": dx, "w_OC": dw, "b_O": db}

    return KernelProblem(values, forward, backward)


def activation(dtype: str, large: bool, *, code: int) -> Problem:
    """Make an activation, whose gradient may overwrite the gradient by its output."""
    shape = (37, 301) if large else (3, 7)
    x = draw("x", shape, 2.0).astype(dtype)

    def forward() -> Arrays:
        y = empty(dtype, *shape)
        ops.activation_forward(x, y, code)
        return {"y_NF": y}

    def backward(d: Arrays) -> Arrays:
        dx, in_place, y = empty(dtype, *shape), d["y_NF"].copy(), empty(dtype, *shape)
        ops.activation_backward(x, d["y_NF"], dx, y, code)
        ops.activation_backward(x, in_place, in_place, None, code)
        return {"x_NF": dx, "x_NF (in place)": in_place}

    return KernelProblem({"x_NF": x}, forward, backward)


def gated(dtype: str, large: bool, *, code: int) -> Problem:
    """Make a gated activation; backward may leave its output where the gradient by it was."""
    n, columns = (37, 301) if large else (3, 5)
    pre = draw("pre", (n, 2 * columns), 2.0).astype(dtype)

    def forward() -> Arrays:
        act = empty(dtype, n, columns)
        ops.gated_forward(pre, act, code)
        return {"act_NF": act}

    def backward(d: Arrays) -> Arrays:
        dpre, again, act = np.full_like(pre, np.nan), np.full_like(pre, np.nan), d["act_NF"].copy()
        ops.gated_backward(pre, d["act_NF"], dpre, None, code)
        ops.gated_backward(pre, act, again, act, code)
        return {"pre_NG": dpre, "pre_NG (in place)": again}

    return KernelProblem({"pre_NG": pre}, forward, backward)


def embedding(dtype: str, large: bool, *, documents: bool) -> Problem:
    """Make the embedding; tokens repeat, and positions beyond the pass get no gradient."""
    (b, t), v, c = ((3, 50), 33, 72) if large else ((2, 5), 4, 3)
    tokens = np.random.default_rng(0).integers(0, v, (b, t), dtype=np.int32)
    token, position = draw("token", (v, c)).astype(dtype), draw("position", (t + 2, c))
    position = position.astype(dtype)
    begin = starts(b, t) if documents else None

    def forward() -> Arrays:
        h = empty(dtype, b * t, c)
        ops.embedding_forward(tokens, token, position, h, begin)
        return {"h_NC": h}

    def once(dh: Array, fill: float, accumulate: bool) -> tuple[Array, Array]:
        dtoken, dposition = np.full_like(token, fill), np.full_like(position, fill)
        order, first = np.zeros(b * t, np.int32), np.zeros(max(v, t) + 1, np.int32)
        rest = (order, first, accumulate, accumulate, begin)
        ops.embedding_backward(tokens, dh, dtoken, dposition, *rest)
        return dtoken, dposition

    def backward(d: Arrays) -> Arrays:
        dtoken, dposition = once(d["h_NC"], np.nan, False)
        more_token, more_position = once(d["h_NC"], 1.0, True)
        added = {"token_VC (added)": more_token - 1, "position_TC (added)": more_position - 1}
        return {"token_VC": dtoken, "position_TC": dposition, **added}

    return KernelProblem({"token_VC": token, "position_TC": position}, forward, backward)


def attention(
    dtype: str,
    large: bool,
    *,
    n_kv_head: int,
    p: float,
    documents: bool = False,
    causal: bool = True,
) -> Problem:
    """Make attention over three tiles of keys, of which the last is short."""
    n_head, size = 4, 40 if large else 2
    b, t = (2, 140) if large else (2, 4)
    qkv = draw("qkv", (b, t, (n_head + 2 * n_kv_head) * size)).astype(dtype)
    begin = starts(b, t) if documents else None
    end = None if causal else stops(begin, b, t)
    rest: Any = (n_head, n_kv_head, size**-0.5, p, *KEY, begin, end)

    def run() -> tuple[Array, Array]:
        out, lse = empty(dtype, b, t, n_head * size), empty(dtype, b, n_head, t)
        ops.attention_forward(qkv, out, lse, *rest)
        return out, lse

    def backward(d: Arrays) -> Arrays:
        dqkv, shape = np.full_like(qkv, np.nan), ops.dkv_shape(b, t, n_head, n_kv_head, size)
        last: Any = (*rest, None if shape is None else empty(dtype, *shape))
        ops.attention_backward(d["out_BTC"], qkv, *run(), dqkv, *last)
        edges = np.cumsum([n_head * size, n_kv_head * size])
        dq, dk, dv = np.split(dqkv, edges, axis=-1)
        return {"q_BTE": dq, "k_BTE": dk, "v_BTE": dv}

    edges = np.cumsum([n_head * size, n_kv_head * size])
    values = dict(zip(("q_BTE", "k_BTE", "v_BTE"), np.split(qkv, edges, axis=-1), strict=True))
    return KernelProblem(values, lambda: {"out_BTC": run()[0]}, backward)


def rotary(dtype: str, large: bool, *, documents: bool) -> Problem:
    """Make rotary positions that turn a part of each head, apart and in place."""
    n_head, n_kv_head, size, pairs = (4, 2, 70, 33) if large else (2, 1, 5, 2)
    (b, t), position = (3, 50) if large else (2, 4), 3
    qkv = draw("qkv", (b, t, (n_head + 2 * n_kv_head) * size)).astype(dtype)
    angles = draw("angles", (position + t, pairs), 3.0)
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    rest = (n_head, n_kv_head, position, starts(b, t) if documents else None)

    def forward() -> Arrays:
        out, in_place = np.full_like(qkv, np.nan), qkv.copy()
        ops.rotary_forward(qkv, cos, sin, out, *rest)
        ops.rotary_forward(in_place, cos, sin, in_place, *rest)
        return {"out_BTE": out, "in_place_BTE": in_place}

    def backward(d: Arrays) -> Arrays:
        dqkv, in_place = np.full_like(qkv, np.nan), d["in_place_BTE"].copy()
        ops.rotary_backward(d["out_BTE"], cos, sin, dqkv, *rest)
        ops.rotary_backward(in_place, cos, sin, in_place, *rest)
        return {"qkv_BTE": dqkv + in_place}

    return KernelProblem({"qkv_BTE": qkv}, forward, backward)


def dropout(dtype: str, large: bool) -> Problem:
    """Make dropout, whose backward draws the mask again."""
    (b, t), c = ((3, 5), 300) if large else ((2, 3), 5)
    x = draw("x", (b * t, c)).astype(dtype)

    def forward() -> Arrays:
        y = empty(dtype, b * t, c)
        ops.dropout_forward(x, y, t, 0.3, *KEY)
        return {"y_NC": y}

    def backward(d: Arrays) -> Arrays:
        dx = empty(dtype, b * t, c)
        ops.dropout_backward(d["y_NC"], dx, t, 0.3, *KEY)
        return {"x_NC": dx}

    return KernelProblem({"x_NC": x}, forward, backward)


def residual(dtype: str, large: bool) -> Problem:
    """Make ``h + dropout(y) + z``: h and z get the gradient unchanged, y gets it masked."""
    (b, t), c = ((3, 5), 300) if large else ((2, 3), 5)
    h, y, z = (draw(name, (b * t, c)).astype(dtype) for name in "hyz")

    def forward() -> Arrays:
        total = h.copy()
        ops.residual_forward(total, y, t, 0.3, *KEY)
        ops.residual_forward(total, z, t, 0.0, *KEY)
        return {"h_NC": total}

    def backward(d: Arrays) -> Arrays:
        dy = empty(dtype, b * t, c)
        ops.dropout_backward(d["h_NC"], dy, t, 0.3, *KEY)
        return {"h_NC": d["h_NC"], "y_NC": dy, "z_NC": d["h_NC"]}

    return KernelProblem({"h_NC": h, "y_NC": y, "z_NC": z}, forward, backward)


def softmax_gradient(dtype: str, large: bool) -> Problem:
    """Make ``a lse - b z_t``, the form of losses that plugins write."""
    n, v = (20, 203) if large else (4, 5)
    z, a, b = (draw(k, s).astype(dtype) for k, s in (("z", (n, v)), ("a", (n,)), ("b", (n,))))
    targets = np.random.default_rng(1).integers(0, v, n, dtype=np.int32)

    def sums() -> tuple[Array, Array]:
        top, total = empty(dtype, n), empty(dtype, n)
        ops.exp_sum(z, top, total)
        return top, total

    def forward() -> Arrays:
        top, total = sums()
        return {"loss_N": a * (top + np.log(total)) - b * z[np.arange(n), targets]}

    def backward(d: Arrays) -> Arrays:
        dz = z.copy()
        ops.softmax_gradient(dz, *sums(), targets, a * d["loss_N"], b * d["loss_N"])
        return {"logits_NV": dz}

    return KernelProblem({"logits_NV": z}, forward, backward)


def soft_cap(dtype: str, large: bool) -> Problem:
    """Make the soft cap of logits, of which some are far beyond it."""
    shape, cap = (20, 203) if large else (4, 5), 1.5
    z = draw("z", shape, 2.0).astype(dtype)

    def forward() -> Arrays:
        capped = z.copy()
        ops.soft_cap_forward(capped, None, cap)
        return {"z_NV": capped}

    def backward(d: Arrays) -> Arrays:
        dz, slope = d["z_NV"].copy(), empty(dtype, *shape)
        ops.soft_cap_forward(z.copy(), slope, cap)
        ops.soft_cap_backward(dz, slope)
        return {"z_NV": dz}

    return KernelProblem({"z_NV": z}, forward, backward)
