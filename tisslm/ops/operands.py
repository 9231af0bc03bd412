"""Which operands an op reads, and which it writes: the marks of the twins' docstrings, as a table.

What does not live here: the ops (``tisslm.ops``), and what is looked for in their operands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.ops.cost import named

__all__ = ["OPERANDS", "SCRATCH", "op_name", "operands_read", "operands_written"]

Array = NDArray[Any]

#: What is overwritten, or, where a flag is named, added to if the flag is true. All other arrays
#: are read only. An op that is not here is one that no pass runs.
OPERANDS: dict[str, dict[str, str | bool]] = {
    "linear_forward": {"y_NO": False},
    "linear_residual_forward": {"h_NO": True},
    "linear_activation_forward": {"y_NO": False, "a_NO": False},
    "linear_backward_input": {"dx_NC": False},
    "linear_backward_weight": {"dw_OC": "accumulate", "db_O": "accumulate"},
    "matmul": {"c_MN": False},
    "layer_norm_forward": {"x_NC": False, "y_NC": False, "mean_N": False, "rstd_N": False},
    "layer_norm_apply": {"y_NC": False},
    "layer_norm_backward": {"dx_NC": False, "dgamma_C": "accumulate", "dbeta_C": "accumulate"},
    "activation_forward": {"y_NF": False},
    "activation_backward": {"dx_NF": False, "y_NF": False},
    "embedding_forward": {"h_NC": False},
    "embedding_backward": {
        "dtoken_VC": "accumulate_token",
        "dposition_TC": "accumulate_position",
    },
    "attention_forward": {"out_BTC": False, "lse_BHT": False},
    "attention_backward": {"dqkv_BTE": False},
    "dropout_forward": {"y_NC": False},
    "dropout_backward": {"dx_NC": False},
    "residual_forward": {"h_NC": True},
    "cross_entropy_tile": {"logits_NV": True, "losses_N": False},
    "focal_tile": {"logits_NV": True, "losses_N": False},
    "exp_sum": {"top_N": False, "total_N": False},
    "softmax_gradient": {"logits_NV": True},
}

#: Arrays that hold nothing between two calls.
SCRATCH = frozenset({"partial_2KC", "order_N", "first_V"})


def _is_read(mark: str | bool | None, arguments: Mapping[str, Any]) -> bool:
    if mark is None:
        return True
    return bool(arguments.get(mark)) if isinstance(mark, str) else mark


def operands_read(op: str, args: tuple[Any, ...]) -> Iterator[tuple[str, Array]]:
    """Yield name and array of what an op is about to read, in the order of its arguments.

    Parameters
    ----------
    op : str
    args : tuple
        Its positional arguments, as a watcher gets them.
    """
    if op not in OPERANDS:
        return
    marks, arguments = OPERANDS[op], named(op, args)
    for name, value in arguments.items():
        if not isinstance(value, np.ndarray) or name in SCRATCH:
            continue
        if _is_read(marks.get(name), arguments):
            yield name, value


def operands_written(op: str, args: tuple[Any, ...]) -> Iterator[tuple[str, Array]]:
    """Yield name and array of what an op has written.

    Parameters
    ----------
    op : str
    args : tuple
        Its positional arguments, as a watcher gets them.
    """
    if op not in OPERANDS:
        return
    arguments = named(op, args)
    for name in OPERANDS[op]:
        value = arguments.get(name)
        if isinstance(value, np.ndarray):
            yield name, value


def op_name(op: str, args: tuple[Any, ...]) -> str:
    """Return what ``tisslm.ops`` calls an op: rounding to another type is dropout of nothing."""
    return "narrow" if op == "dropout_forward" and args[3] == 0.0 else op
