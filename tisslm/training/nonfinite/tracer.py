"""Look before and after each operation of a pass, and keep the first number that is not finite.

An operation whose inputs were finite and whose output is not has made it. An input that is not
finite came from elsewhere: it is a parameter, or an array that something else has written to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import PassObserver
from tisslm.memory import Parameter, Parameters
from tisslm.memory.finite import Spot, find_non_finite
from tisslm.ops.operands import op_name, operands_read, operands_written
from tisslm.training.nonfinite.finding import Fault, Kind

__all__ = [
    "ArrayNames",
    "Tracer",
]

Array = NDArray[Any]


class Tracer(ops.Watcher, PassObserver):
    """Watches the operations of a step's passes.

    Parameters
    ----------
    parameters : Parameters
        The model's; an operand that lies in their memory is named by them.
    rows, time : int
        B and T of a micro-batch.

    Attributes
    ----------
    fault : Fault or None
        The first number that was not finite; after it nothing is looked at.
    """

    def __init__(self, parameters: Parameters, rows: int, time: int) -> None:
        self.fault: Fault | None = None
        self._names = ArrayNames(parameters)
        self._rows, self._time = rows, time
        self._place, self._direction = "", ""
        self._places: list[str] = []
        self._micro_batch = -1
        self._call: tuple[str, ...] = ()
        self._done: dict[tuple[object, ...], int] = {}
        self._writers: dict[tuple[int, int], str] = {}

    # ------------------------------------------------------------------ places

    def enter(self, place: str, direction: str) -> None:
        """Note where the pass is; the first place of a pass begins a micro-batch."""
        if place not in self._places:
            self._places.append(place)
        if place == self._places[0] and direction == "forward":
            self._micro_batch += 1
            self._done.clear()
        self._place, self._direction = place, direction

    def leave(self, place: str, direction: str, arrays: Mapping[str, Array]) -> None:
        """Look at the arrays that a place leaves, which need not come from an operation."""
        names = ("d_stream", "d_hidden") if direction == "backward" else tuple(arrays)
        self._look("left", "", ((name, arrays[name]) for name in names if name in arrays))

    # ------------------------------------------------------------------ ops

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        """Look at what an op will read."""
        if self.fault is None:
            self._call = (op, *self._names.of_all(args))
            self.given(op_name(op, args), operands_read(op, args))

    def after(self, op: str, args: tuple[Any, ...]) -> None:
        """Look at what an op has written."""
        if self.fault is None:
            self.made(op_name(op, args), operands_written(op, args))

    def given(self, op: str, operands: Iterable[tuple[str, Array]]) -> None:
        """Look at what anything that computes will read.

        Parameters
        ----------
        op : str
        operands : iterable of (str, ndarray)
        """
        self._look("operand", op, operands)

    def made(self, op: str, operands: Iterable[tuple[str, Array]]) -> None:
        """Look at what something has computed, and count the rows that are done.

        Parameters
        ----------
        op : str
        operands : iterable of (str, ndarray)
        """
        arrays = list(operands)
        self._look("output", op, arrays)
        for _, array in arrays:
            start, stop = _bounds(array)
            self._writers.pop((start, stop), None)
            self._writers[start, stop] = ", ".join(
                part for part in (op, self._place, self._direction) if part
            )
        rows = next((len(array) for name, array in arrays if _has_rows(name)), 0)
        if rows:
            key = self._key(op)
            self._done[key] = self._done.get(key, 0) + rows
        self._call = ()

    # ------------------------------------------------------------------ looking

    def _look(self, kind: Kind, op: str, operands: Iterable[tuple[str, Array]]) -> None:
        for operand, array in operands:
            if self.fault is not None:
                return
            spot = find_non_finite(array)
            if spot is not None:
                self.fault = self._fault(kind, op, operand, array, spot)

    def _fault(self, kind: Kind, op: str, operand: str, array: Array, spot: Spot) -> Fault:
        name = self._names.parameter(array)
        if kind == "operand" and name:
            kind = "parameter"
        name = name or self._names.gradient(array)
        row, token = (None, None) if name else self._sample(op, operand, array, spot.index)
        return Fault(
            kind=kind,
            place=self._place,
            direction="backward" if "_backward" in op else self._direction,
            op=op,
            operand=operand,
            name=name,
            index=spot.index,
            value=spot.value,
            count=spot.count,
            size=spot.size,
            micro_batch=self._micro_batch if self._micro_batch >= 0 else None,
            row=row,
            token=token,
            after=self._writer(array, spot.index) if kind == "operand" else "",
        )

    def place_of(self, name: str) -> str:
        """Return the place whose parameter a name is, as far as places were announced."""
        found = [place for place in self._places if name.startswith(f"{place}.")]
        return max(found, key=len, default=name.rpartition(".")[0])

    def _key(self, op: str) -> tuple[object, ...]:
        """Return what a chunk of rows has in common with the next one."""
        return self._place, self._direction, op, self._call

    def _sample(
        self, op: str, operand: str, array: Array, index: tuple[int, ...]
    ) -> tuple[int | None, int | None]:
        """Return row of the step and token of an element, from its operand's letters."""
        letters = operand.rpartition("_")[2]
        first = max(self._micro_batch, 0) * self._rows
        if letters.startswith("BT") or operand == "qkv":
            return first + index[0], index[1]
        if letters == "BHT":
            return first + index[0], index[2]
        if _has_rows(operand) or operand in _STREAMS or operand.startswith(_STATISTICS):
            done = self._done.get(self._key(op), 0) if len(array) < self._rows * self._time else 0
            row, token = divmod(done + index[0], self._time)
            return first + row, token
        return None, None

    def _writer(self, array: Array, index: tuple[int, ...]) -> str:
        """Return what wrote the memory of an element last."""
        steps = zip(index, array.strides, strict=True)
        address = array.ctypes.data + sum(i * stride for i, stride in steps)
        for (start, stop), writer in reversed(self._writers.items()):
            if start <= address < stop:
                return writer
        return ""


#: What a place leaves with a row for each token of a micro-batch.
_STREAMS = frozenset({"stream", "d_stream", "x", "pre", "up"})

#: How the names of a norm's buffers begin: of those that a place leaves, each has a number a row.
_STATISTICS = "norm_"


def _has_rows(operand: str) -> bool:
    """Tell whether the first axis of an operand is that of tokens, by its letters."""
    letters = operand.rpartition("_")[2]
    return operand != letters and letters in ("N", "NC", "NO", "NF", "NG", "NU", "NV")


def _bounds(array: Array) -> tuple[int, int]:
    low, high = np.lib.array_utils.byte_bounds(array)
    return int(low), int(high)


class ArrayNames:
    """The parameters of a model by the addresses of their data and gradients.

    Parameters
    ----------
    parameters : Parameters
    """

    def __init__(self, parameters: Parameters) -> None:
        self._data = {p.data.ctypes.data: p for p in parameters}
        base, item = parameters.grad_arena.ctypes.data, parameters.grad_arena.itemsize
        self._grad = {base + item * p.offset: p for p in parameters if p.trainable}

    def of_all(self, args: tuple[Any, ...]) -> list[str]:
        """Return the names of the parameters whose data or gradients are among arguments."""
        arrays = [value for value in args if isinstance(value, np.ndarray)]
        names = (self.parameter(array) or self.gradient(array) for array in arrays)
        return [name for name in names if name]

    def parameter(self, array: Array) -> str:
        """Return the name of the parameter whose data an array is, "" if it is no parameter's."""
        return _name(self._data.get(array.ctypes.data), array)

    def gradient(self, array: Array) -> str:
        """Return the name of the parameter whose gradient an array is, "" if it is none's."""
        return _name(self._grad.get(array.ctypes.data), array)


def _name(parameter: Parameter | None, array: Array) -> str:
    return parameter.name if parameter is not None and parameter.data.size == array.size else ""
