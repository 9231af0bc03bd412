"""How much an operation of ``tisslm.ops`` has to do: its operations and its least traffic.

Both are read off the arrays of a call, by the names that its twin gives them. Traffic is each
array once, and twice where it is read and written, as if caches held nothing between two calls and
everything within one. So a kernel whose arrays fit in a cache may go beyond the memory's bound.

What does not live here: time (``profiling``), and what a model counts for a whole step
(``Model.flops_per_token``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from tisslm import ops
from tisslm.ops import operations as door

__all__ = [
    "PARTS",
    "UNIT",
    "bound_of",
    "flops",
    "named",
    "nbytes",
    "operations",
    "part_of",
    "shapes",
]

#: Parts of a training step, by the beginning of an operation's name; the first that fits counts.
PARTS = {
    "products": ("linear_", "matmul"),
    "monitors": ("summarize", "attention_entropy"),
    "attention": ("attention_",),
    "norms": ("layer_norm", "rms_norm", "norm_"),
    "activation": ("activation_",),
    "loss": ("cross_entropy", "focal", "exp_sum", "softmax_gradient", "target_rank"),
    "embedding": ("embedding_",),
    "residual": ("residual_", "dropout_"),
    "optimizer": ("adam_", "sgd_", "rmsprop_", "squared_norm", "scale", "fill"),
}
OTHER = "other kernels"

#: Parts whose bound is multiply-adds; the others' is memory.
BY_PRODUCTS = ("products", "attention")

UNIT = {"products": "GFLOP/s", "memory": "GB/s"}

#: Arrays that are read and written.
UPDATED = {
    "residual_forward": ("h_NC",),
    "linear_residual_forward": ("h_NO",),
    "cross_entropy_tile": ("logits_NV",),
    "focal_tile": ("logits_NV",),
    "softmax_gradient": ("logits_NV",),
    "adam_update": ("p_P", "m_P", "v_P"),
    "sgd_update": ("p_P", "momentum_P"),
    "rmsprop_update": ("p_P", "square_P", "average_P", "momentum_P"),
    "scale": ("x_P",),
}

#: Written, and read too where the call accumulates.
ACCUMULATED = ("dw_OC", "db_O", "dgamma_C", "dbeta_C")

#: Tables of which only the rows of the batch's tokens are touched, and how often.
GATHERED = {"token_VC": 1, "dtoken_VC": 2}


def operations() -> dict[str, Callable[..., None]]:
    """Return the operations of ``ops``, the functions that wrap a twin, by the twin's name."""
    return {
        op.__name__: op
        for op in (*vars(door).values(), *vars(ops).values())
        if hasattr(op, "__wrapped__") and "reference" in op.__module__.split(".")
    }


def part_of(operation: str) -> str:
    """Return the part of a step that an operation belongs to."""
    for part, beginnings in PARTS.items():
        if operation.startswith(beginnings):
            return part
    return OTHER


def bound_of(part: str) -> str:
    """Return what a part cannot be faster than: "products" or "memory"."""
    return "products" if part in BY_PRODUCTS else "memory"


def named(operation: str, args: tuple[Any, ...]) -> dict[str, Any]:
    """Return a call's arguments by the names that the twin gives them."""
    return dict(zip(_names(operation), args, strict=False))


@cache
def _names(operation: str) -> tuple[str, ...]:
    return tuple(inspect.signature(operations()[operation]).parameters)


def flops(operation: str, arguments: Mapping[str, Any]) -> int:
    """Count the multiply-adds of a call, as two each: products, and attention's causal half.

    What backward computes once more counts nothing.

    Parameters
    ----------
    operation : str
        Name of the twin.
    arguments : mapping
        What ``named`` returned.
    """
    if operation.startswith("linear_"):
        rows = _first(arguments, "x_NC", "dy_NO").shape[0]
        outputs, channels = _first(arguments, "w_OC", "dw_OC").shape
        return int(2 * rows * outputs * channels)
    if operation == "matmul":
        (rows, inner), columns = arguments["a_MK"].shape, arguments["b_KN"].shape[1]
        return int(2 * rows * inner * columns)
    # one product of T x T x D for the scores and one for the output; backward has two for each,
    # and of every one the causal half
    if operation in ("attention_forward", "attention_backward"):
        batch, time, channels = arguments["out_BTC"].shape
        passes = 2 if operation == "attention_forward" else 4
        return int(passes * batch * time * time * channels)
    return 0


def nbytes(operation: str, arguments: Mapping[str, Any]) -> int:
    """Count the least traffic of a call with memory, in bytes.

    Parameters
    ----------
    operation : str
        Name of the twin.
    arguments : mapping
        What ``named`` returned.
    """
    touched: dict[int, int] = {}
    for name, value in arguments.items():
        if isinstance(value, np.ndarray):
            place = value.__array_interface__["data"][0]
            # an array that is given twice, to be changed in place, is read and written
            touched[place] = touched.get(place, 0) + _traffic(operation, name, value, arguments)
    return sum(touched.values())


def _traffic(operation: str, name: str, array: Any, arguments: Mapping[str, Any]) -> int:
    if name in GATHERED:
        rows = np.unique(arguments["tokens_BT"]).size
        return int(GATHERED[name] * rows * array.shape[1] * array.itemsize)
    if name in ("position_TC", "dposition_TC"):
        return int(arguments["tokens_BT"].shape[1] * array.shape[1] * array.itemsize)
    again = name in UPDATED.get(operation, ())
    again = again or (name in ACCUMULATED and bool(arguments.get("accumulate")))
    return int(array.nbytes * (2 if again else 1))


def shapes(arguments: Mapping[str, Any]) -> str:
    """Say the arrays of a call for reading: ``x_NC 64x384, w_OC 65x384``; bf16 as uint16."""
    return ", ".join(
        f"{name} {'x'.join(map(str, value.shape))}"
        + ("" if value.dtype == np.float32 else f" {value.dtype}")
        for name, value in arguments.items()
        if isinstance(value, np.ndarray)
    )


def _first(arguments: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        if arguments.get(name) is not None:
            return arguments[name]
    raise KeyError(f"none of {', '.join(names)} in the call")
