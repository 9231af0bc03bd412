"""Pooling, as a problem for the gradient checks: one for each kind."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.testing.gradients.kernels import KernelProblem, empty
from tisslm.testing.gradients.problem import Case, Problem, draw

__all__ = ["pooling_cases"]

Array = NDArray[Any]
Arrays = dict[str, Array]


def pooling_cases() -> list[Case]:
    """Return a case for each way to make one row of a text's."""
    return [
        Case(f"pooling_{name}", "kernel", partial(pooling, kind=kind), limit=64)
        for name, kind in ops.POOLINGS.items()
    ]


def pooling(dtype: str, large: bool, *, kind: int) -> Problem:
    """Make one row of each text; a text has a single row, and some rows belong to none."""
    rows, channels = (150, 290) if large else (10, 3)
    half = rows // 2
    first, stop = np.array([1, half, half + 1]), np.array([half, half + 1, rows - 2])
    hidden = draw("hidden", (rows, channels)).astype(dtype)

    def run() -> tuple[Array, Array]:
        out, places = empty(dtype, 3, channels), np.zeros((3, channels), np.int32)
        ops.pool_forward(hidden, first, stop, out, kind, places)
        return out, places

    def backward(d: Arrays) -> Arrays:
        dh = empty(dtype, rows, channels)
        ops.pool_backward(d["out_PC"], first, stop, dh, kind, run()[1])
        return {"hidden_NC": dh}

    return KernelProblem({"hidden_NC": hidden}, lambda: {"out_PC": run()[0]}, backward)
