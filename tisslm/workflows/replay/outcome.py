"""The result of a replay: its steps beside the run's record, and whether they are equal."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from tisslm.system.strict_json import plain_number
from tisslm.training.nonfinite import Finding
from tisslm.workflows.replay.statistics import Statistics

__all__ = ["Replayed", "ReplayedStep", "same_number"]


def same_number(first: float, second: float) -> bool:
    """Return True if two numbers are equal, or both NaN."""
    return first == second or (math.isnan(first) and math.isnan(second))


@dataclass(frozen=True)
class ReplayedStep:
    """A step that was replayed.

    Attributes
    ----------
    step : int
        Number of the update, or the number that it would have had.
    position : int
        Number of its batch in the order of the run, from 0.
    loss, grad_norm : float
    learning_rate : float
        Learning rate of the update.
    applied : bool
        Whether the parameters were updated.
    recorded_loss, recorded_grad_norm : float or None
        The values in the run's record; None if it has none.
    statistics : list of Statistics
    """

    step: int
    position: int
    loss: float
    grad_norm: float
    learning_rate: float
    applied: bool
    recorded_loss: float | None = None
    recorded_grad_norm: float | None = None
    statistics: list[Statistics] = field(default_factory=list)

    @property
    def is_same(self) -> bool | None:
        """True if loss and norm equal the recorded ones bit for bit; None if none are recorded."""
        pairs = ((self.loss, self.recorded_loss), (self.grad_norm, self.recorded_grad_norm))
        known = [(ours, theirs) for ours, theirs in pairs if theirs is not None]
        return all(same_number(*pair) for pair in known) if known else None

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        value: dict[str, Any] = {
            name: plain_number(value) if isinstance(value, float) else value
            for name, value in vars(self).items()
        }
        value["statistics"] = [row.as_json() for row in self.statistics]
        return {**value, "same": self.is_same}


@dataclass
class Replayed:
    """The result of a replay.

    Attributes
    ----------
    start : str
        The checkpoint that it began from, "" for the start of the run.
    steps : list of ReplayedStep
    finding : Finding or None
        Where a step that was not finite in the run fails now.
    fault_is_same : bool or None
        Whether that equals the finding of the run; None if there was none.
    checkpoint : str
        The checkpoint of the last step, with which the replay was compared; "" if there is none.
    differences : list of str
        Names of the arrays in it that are not equal bit for bit.
    """

    start: str = ""
    steps: list[ReplayedStep] = field(default_factory=list)
    finding: Finding | None = None
    fault_is_same: bool | None = None
    checkpoint: str = ""
    differences: list[str] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """True if nothing that could be compared differs."""
        steps = all(step.is_same is not False for step in self.steps)
        return steps and self.fault_is_same is not False and not self.differences

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            "start": self.start,
            "steps": [step.as_json() for step in self.steps],
            "finding": None if self.finding is None else self.finding.as_json(),
            "fault_is_same": self.fault_is_same,
            "checkpoint": self.checkpoint,
            "differences": self.differences,
            "same": self.is_same,
        }
