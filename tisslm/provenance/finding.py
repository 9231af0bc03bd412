"""What running a failed window again has shown.

What does not live here: running it (``investigation``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tisslm.json_numbers import plain_number
from tisslm.provenance.fault import Fault

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """What the second pass over a window has shown.

    Attributes
    ----------
    recurs : bool or None
        Whether loss or gradients were not finite again; None if the pass could not be made.
    loss, grad_norm : float
        Of the second pass.
    fault : Fault or None
        The first number that is not finite.
    remark : str
        What else is to be said, such as why the pass could not be made.
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
