"""The floating-point operations and the least memory traffic of a call of an operation.

Both follow from the arrays of a call, by the names that its twin gives them. Traffic counts each
array once, and twice if it is read and written, as if caches held nothing between two calls and
everything within one. So a kernel whose arrays fit in a cache may exceed the bandwidth of memory.

A model counts the operations of a whole step by itself (``Model.flops_per_token``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from tisslm.ops.door import OPERATIONS, OTHER, PARTS

__all__ = [
    "OTHER",
    "PARTS",
    "UNIT",
    "bound_of",
    "flops",
    "is_read_and_written",
    "named",
    "nbytes",
    "operations",
    "part_of",
    "shapes",
]

#: Parts whose speed is limited by multiply-adds; the others are limited by memory.
BY_PRODUCTS = ("products", "attention")

UNIT = {"products": "GFLOP/s", "memory": "GB/s"}

#: Tables of which only the rows of the batch's tokens are accessed, and how often.
GATHERED = {"token_VC": 1, "dtoken_VC": 2}


def operations() -> dict[str, Callable[..., None]]:
    """Return every registered operation by its name, those of plugins included."""
    import tisslm.ops.operations  # noqa: F401 (the built-in ones register as they are loaded)

    return {name: operation.run for name, operation in OPERATIONS.items()}


def part_of(operation: str) -> str:
    """Return the part of a step that an operation belongs to."""
    return OPERATIONS[operation].part if operation in OPERATIONS else OTHER


def bound_of(part: str) -> str:
    """Return what limits the speed of a part: "products" or "memory"."""
    return "products" if part in BY_PRODUCTS else "memory"


def named(operation: str, args: tuple[Any, ...]) -> dict[str, Any]:
    """Return the arguments of a call by their names in the twin."""
    return dict(zip(_names(OPERATIONS[operation].twin), args, strict=False))


@cache
def _names(twin: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(twin).parameters)


def flops(operation: str, arguments: Mapping[str, Any]) -> int:
    """Count the floating-point operations of a call: two for each multiply-add.

    Only matrix products are counted, and of attention the pairs of query and key that are seen: the
    causal half, or what is before ``stop_BT``, less the keys before ``start_BT``, those of other
    documents or outside a sliding window. Kernels leave out their tiles, so a rate that counted
    them could exceed the peak. Of the causal half, a token and itself are half a pair, as they are
    in T^2 / 2. What backward computes a second time is not counted.

    Parameters
    ----------
    operation : str
        Name of the twin.
    arguments : mapping
        What ``named`` returned.
    """
    if operation.startswith("linear_"):
        rows = _first(arguments, "x_NC", "dy_NO", "dy_NE").shape[0]
        weight = _first(arguments, "w_OC", "dw_OC", "db_O")
        if weight.ndim < 2:  # the gradient of a bias alone, whose weight is frozen
            return 0
        outputs, channels = weight.shape
        products = 2 if operation == "linear_backward" else 1
        return int(2 * products * rows * outputs * channels)
    if operation == "matmul":
        (rows, inner), columns = arguments["a_MK"].shape, arguments["b_KN"].shape[1]
        return int(2 * rows * inner * columns)
    # one product of pairs x D for the scores and one for the output; backward has two for each
    if operation in ("attention_forward", "attention_backward"):
        batch, time, channels = arguments["out_BTC"].shape
        start, stop = arguments.get("start_BT"), arguments.get("stop_BT")
        whole = batch * time * time if stop is None else 2 * int(stop.sum(dtype=np.int64))
        twice = whole - (0 if start is None else 2 * int(start.sum(dtype=np.int64)))
        passes = 2 if operation == "attention_forward" else 4
        return int(passes * twice * channels)
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


def is_read_and_written(operation: str, name: str, arguments: Mapping[str, Any]) -> bool:
    """Return True if a call overwrites an array after reading it."""
    mark = OPERATIONS[operation].marks.written.get(name, False)
    return bool(arguments.get(mark)) if isinstance(mark, str) else mark


def _traffic(operation: str, name: str, array: Any, arguments: Mapping[str, Any]) -> int:
    if name in GATHERED:
        rows = np.unique(arguments["tokens_BT"]).size
        return int(GATHERED[name] * rows * array.shape[1] * array.itemsize)
    if name in ("position_TC", "dposition_TC"):
        return int(arguments["tokens_BT"].shape[1] * array.shape[1] * array.itemsize)
    again = is_read_and_written(operation, name, arguments)
    return int(array.nbytes * (2 if again else 1))


def shapes(arguments: Mapping[str, Any]) -> str:
    """Describe the arrays of a call: ``x_NC 64x384, w_OC 65x384``; bf16 appears as uint16."""
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
