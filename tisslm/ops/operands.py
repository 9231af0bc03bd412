"""Which operands an op of a pass reads, and which it writes, by the marks of its twin.

What does not live here: the ops (``tisslm.ops``), and what is looked for in their operands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.ops.cost import is_read_and_written, named
from tisslm.ops.door import OPERATIONS
from tisslm.ops.marks import Marks

__all__ = ["op_name", "operands_read", "operands_written"]

Array = NDArray[Any]

#: Parts of a step that no pass runs: what their operations read and write is not followed.
_OUTSIDE = frozenset({"optimizer", "monitors"})


def _marks(op: str) -> Marks | None:
    operation = OPERATIONS.get(op)
    return None if operation is None or operation.part in _OUTSIDE else operation.marks


def operands_read(op: str, args: tuple[Any, ...]) -> Iterator[tuple[str, Array]]:
    """Yield name and array of what an op is about to read, in the order of its arguments.

    Parameters
    ----------
    op : str
    args : tuple
        Its positional arguments, as a watcher gets them.
    """
    marks = _marks(op)
    if marks is None:
        return
    arguments = named(op, args)
    for name, value in arguments.items():
        if not isinstance(value, np.ndarray) or name in marks.scratch:
            continue
        if name not in marks.written or is_read_and_written(op, name, arguments):
            yield name, value


def operands_written(op: str, args: tuple[Any, ...]) -> Iterator[tuple[str, Array]]:
    """Yield name and array of what an op has written.

    Parameters
    ----------
    op : str
    args : tuple
        Its positional arguments, as a watcher gets them.
    """
    marks = _marks(op)
    if marks is None:
        return
    arguments = named(op, args)
    for name in marks.written:
        value = arguments.get(name)
        if isinstance(value, np.ndarray):
            yield name, value


def op_name(op: str, args: tuple[Any, ...]) -> str:
    """Return what ``tisslm.ops`` calls an op: rounding to another type is dropout of nothing."""
    return "narrow" if op == "dropout_forward" and args[3] == 0.0 else op
