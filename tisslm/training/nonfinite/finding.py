"""What is known of the first number that is not finite, as values and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tisslm.system.strict_json import plain_number

__all__ = [
    "Fault",
    "Finding",
    "Kind",
]


@dataclass(frozen=True)
class Finding:
    """What the second pass over a window has shown.

    Attributes
    ----------
    recurs : bool or None
        Whether loss or gradients were not finite again; None if the pass could not be made.
    loss, grad_norm : float
        Loss and gradient norm of the second pass.
    fault : Fault or None
        The first number that is not finite.
    remark : str
        Anything else that a message says, such as why the pass could not be made.
    """

    recurs: bool | None
    loss: float
    grad_norm: float
    fault: Fault | None = None
    remark: str = ""

    @property
    def words(self) -> str:
        """The finding as a part of a sentence."""
        if self.recurs is None:
            return f"the search for its origin failed ({self.remark})"
        if not self.recurs:
            return (
                f"run again, the same window has a loss of {self.loss:.6g} and a gradient norm of "
                f"{self.grad_norm:.6g}, both finite: {self.remark or _HARDWARE}"
            )
        if self.fault is None:
            return f"it recurs, and {self.remark or _NOWHERE}"
        also = f"; {self.remark}" if self.remark else ""
        return f"first in {self.fault.words}{also}"

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "recurs": self.recurs,
            "loss": plain_number(self.loss),
            "grad_norm": plain_number(self.grad_norm),
            "fault": None if self.fault is None else self.fault.as_json(),
            "remark": self.remark,
            "words": self.words,
        }


_HARDWARE = (
    "a pass has the same bits whenever it is run, so this was a fault of the hardware (memory, "
    "processor), not of the model or the data"
)
_NOWHERE = (
    "every array that an operation read or wrote is finite: sums over them are not, or it came "
    "from another process of the run"
)
#: The kinds of arrays in which the number may be found first. "output": a result of an operation.
#: "parameter": a parameter that an operation reads. "operand": another array that an operation
#: reads. "left": an array that a part of the model leaves. "gradient": a parameter's gradient after
#: the passes. "state": the optimizer's state. For "operand", "left" and "gradient", no operation
#: has made the number.
Kind = Literal["output", "parameter", "operand", "left", "gradient", "state"]


@dataclass(frozen=True)
class Fault:
    """The first number that is not finite.

    Attributes
    ----------
    kind : str
        One of ``Kind``.
    place : str
        The part of the model, named as its parameters are, such as "blocks.0.mlp"; "" if the model
        does not announce its passes.
    direction : {"forward", "backward", "recompute", "update", ""}
        "recompute" is a forward that activation checkpointing runs again in backward.
    op : str
        The operation that made the number, or that read it first; "" if none is known.
    operand : str
        The operation's name for the array; letters are those of docs/notation.md.
    name : str
        The name of the parameter, or ``<parameter>/<slot>`` for the optimizer's state; "" for
        activations.
    index : tuple of int
        Where in that array the number is; in a chunk of rows, counted from the chunk's first.
    value : float
    count, size : int
        How many of the array's elements are not finite, and how many it has.
    micro_batch : int or None
        The number of the micro-batch within the step, from 0.
    row, token : int or None
        The row of the step and the position in it, where the index tells them.
    window : int or None
        The number of the dataset's window that this row is.
    after : str
        The operation that had left the array finite, where it is known.
    """

    kind: Kind
    place: str
    direction: str
    op: str
    operand: str
    name: str
    index: tuple[int, ...]
    value: float
    count: int
    size: int
    micro_batch: int | None = None
    row: int | None = None
    token: int | None = None
    window: int | None = None
    after: str = ""

    @property
    def words(self) -> str:
        """Place, direction and what is wrong, as a part of a sentence."""
        where = ", ".join(part for part in (self.place, self.direction) if part)
        begin = f"{where}: " if where else ""
        return f"{begin}{_WHAT[self.kind](self)}{self._share()}{self._sample()}"

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "index": list(self.index), "value": plain_number(self.value)}

    @property
    def element(self) -> str:
        """Name the element, such as ``y_NO[3, 17]``."""
        at = ", ".join(map(str, self.index))
        return f"{self.name or self.operand}[{at}]"

    @property
    def number(self) -> str:
        """The value in words."""
        return str(plain_number(self.value))

    def _share(self) -> str:
        return f", {self.count} of {self.size} in all" if self.count > 1 else ""

    def _sample(self) -> str:
        parts = [] if self.micro_batch is None else [f"micro-batch {self.micro_batch}"]
        parts += [] if self.row is None else [f"row {self.row}"]
        parts += [] if self.window is None else [f"window {self.window}"]
        parts += [] if self.token is None else [f"token {self.token}"]
        return f" ({', '.join(parts)})" if parts else ""


def _output(fault: Fault) -> str:
    what = f"the gradient of {fault.element}" if fault.name else fault.element
    return f"{fault.op} made {what} {fault.number}"


def _parameter(fault: Fault) -> str:
    read = f" where {fault.op} reads it" if fault.op else ""
    return f"the parameter {fault.element} is {fault.number}{read}"


def _operand(fault: Fault) -> str:
    what = f"the gradient of {fault.element}" if fault.name else f"its {fault.element}"
    after = f"; {fault.after} had left it finite" if fault.after else ""
    return f"{fault.op} is given {fault.number} as {what}, which no operation made{after}"


def _left(fault: Fault) -> str:
    return f"it leaves {fault.element} {fault.number}, which no operation made"


def _gradient(fault: Fault) -> str:
    return f"the gradient of {fault.element} is {fault.number}, which no operation made"


def _state(fault: Fault) -> str:
    return (
        f"{fault.op} made the parameter {fault.number} from the optimizer's {fault.element}, "
        f"which is {fault.number}"
    )


_WHAT = {
    "output": _output,
    "parameter": _parameter,
    "operand": _operand,
    "left": _left,
    "gradient": _gradient,
    "state": _state,
}
