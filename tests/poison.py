"""Something that spoils what an op has written, at one place of each pass."""

from __future__ import annotations

import numpy as np

from tisslm import ops
from tisslm.contracts import PassObserver
from tisslm.ops.operands import operands_written

__all__ = ["Poison"]


class Poison(ops.Watcher, PassObserver):
    """Writes a number into what an op has written, at one place of each window's passes.

    Parameters
    ----------
    op, place, direction : str
    operand : str
        Of what the op writes.
    index : tuple of int
    value : float
        bfloat16 gets NaN whatever it is.
    micro : int
        Number of the micro-batch.
    micros : int
        Of a window.
    times : int, optional
        How often it is done; a fault of the hardware is one that is done once.
    """

    def __init__(
        self, op, place, direction, operand, index, *, value=np.nan, micro=0, micros=1, times=None
    ):
        self.wanted = (op, place, direction, micro)
        self.operand, self.index, self.value, self.times = operand, index, value, times
        self.micros, self.written = micros, 0
        self.place, self.direction, self.micro = "", "", -1

    def enter(self, place, direction):
        self.micro += place == "embedding" and direction == "forward"
        self.place, self.direction = place, direction

    def leave(self, place, direction, arrays):
        if (place, direction) == ("embedding", "backward") and self.micro == self.micros - 1:
            self.micro = -1

    def after(self, op, args):
        if (op, self.place, self.direction, self.micro) != self.wanted:
            return
        if self.times is not None and self.written >= self.times:
            return
        self.written += 1
        array = dict(operands_written(op, args))[self.operand]
        array[self.index] = 0x7FC0 if array.dtype == np.uint16 else self.value
