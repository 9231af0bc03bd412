"""What a run has on record of its steps: metrics.jsonl, and the losses in its checkpoints.

What does not live here: writing either (``tisslm.tracking.sinks``, ``tisslm.checkpoint``).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tisslm import checkpoint
from tisslm.errors import CheckpointError, TissLMError
from tisslm.system.strict_json import parse_json

__all__ = ["Record", "read_record"]

#: Bytes of the longest line that is read; histograms make long ones.
LONGEST = 2**24

_STEP = re.compile(rb'\{\s*"step":\s*(\d{1,18})')


@dataclass
class Record:
    """What is known of the steps of a run.

    Attributes
    ----------
    losses, grad_norms : dict of int to float
        By step.
    evaluations : dict of int to dict of str to float
        The metrics of evaluations, by step.
    """

    losses: dict[int, float] = field(default_factory=dict)
    grad_norms: dict[int, float] = field(default_factory=dict)
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)


def read_record(metrics: Path, checkpoints: Path, first: int, last: int) -> Record:
    """Read what is known of some steps.

    Parameters
    ----------
    metrics : Path
        The file of the sink ``jsonl``; it need not be there. Damaged lines are passed over.
    checkpoints : Path
        Folder of the run's checkpoints: the newest that verifies has the losses of all steps before
        it.
    first, last : int
        Steps.
    """
    record = Record()
    for step, loss in _history(checkpoints, first, last):
        record.losses[step] = loss
    try:
        with metrics.open("rb") as file:
            while line := file.readline(LONGEST):
                _take(record, line, first, last)
    except OSError:
        pass
    return record


def _take(record: Record, line: bytes, first: int, last: int) -> None:
    """Add a line of metrics.jsonl to the record, if it is one of these steps."""
    begin = _STEP.match(line)
    if begin is None or not first <= int(begin[1]) <= last:
        return
    try:
        value = parse_json(line, "metrics", allow_nan=True)
    except TissLMError:
        return
    step = int(begin[1])
    for name, known in (("train/loss", record.losses), ("train/grad_norm", record.grad_norms)):
        number = _number(value.get(name))
        if number is not None:
            known[step] = number
    found = {name: _number(v) for name, v in value.items() if name.startswith("eval/")}
    metrics = {name: number for name, number in found.items() if number is not None}
    if metrics:
        record.evaluations[step] = metrics


def _number(value: Any) -> float | None:
    """Return a number of metrics.jsonl, which has words for those that JSON lacks."""
    if isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity"):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return float(value)


def _history(checkpoints: Path, first: int, last: int) -> list[tuple[int, float]]:
    """Return the losses that the newest checkpoint has of some steps."""
    try:
        found = checkpoint.find_newest(checkpoints)
        if found is None:
            return []
        saved = checkpoint.read(found, [checkpoint.TRAINER_ARRAYS])
        losses = saved[checkpoint.TRAINER_ARRAYS]["loss_history"].ravel()
    except (CheckpointError, KeyError):
        return []
    steps = range(max(first, 1), min(last, len(losses)) + 1)
    return [(step, float(losses[step - 1])) for step in steps if not math.isnan(losses[step - 1])]
