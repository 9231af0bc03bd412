"""The recorded values of a run's steps, from metrics.jsonl and the losses in its checkpoints."""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from tisslm import checkpoint
from tisslm.errors import CheckpointError, DataError
from tisslm.system.safe_files import Refusal, RegularFile
from tisslm.system.strict_json import read_number
from tisslm.tracking.metric_lines import LineCutter, parse_record

__all__ = ["Record", "read_record"]

_PASSED = Refusal(DataError, "passed over", "the other lines are used")

_STEP = re.compile(rb'\{\s*"step":\s*(\d{1,18})')


@dataclass
class Record:
    """Recorded values of the steps of a run.

    Attributes
    ----------
    losses, grad_norms : dict of int to float
        The values, by step.
    evaluations : dict of int to dict of str to float
        The metrics of evaluations, by step.
    """

    losses: dict[int, float] = field(default_factory=dict)
    grad_norms: dict[int, float] = field(default_factory=dict)
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)


def read_record(metrics: Path, checkpoints: Path, first: int, last: int) -> Record:
    """Read the recorded values of a range of steps.

    Parameters
    ----------
    metrics : Path
        The file of the sink ``jsonl``; it may be missing. Damaged lines are skipped.
    checkpoints : Path
        Folder of the run's checkpoints: the newest that verifies has the losses of all steps before
        it.
    first, last : int
        Range of steps, both included.
    """
    record = Record()
    for step, loss in _history(checkpoints, first, last):
        record.losses[step] = loss
    with contextlib.suppress(DataError), RegularFile(metrics, _PASSED, follow=True) as file:
        for line in LineCutter().lines(file.blocks()):
            if line is not None:
                _take(record, line, first, last)
    return record


def _take(record: Record, line: bytearray, first: int, last: int) -> None:
    """Add a line of metrics.jsonl to the record, if its step is in the range."""
    begin = _STEP.match(line)
    if begin is None or not first <= int(begin[1]) <= last:
        return
    try:
        step, value = parse_record(line, "metrics", _PASSED)
    except DataError:
        return
    for name, known in (("train/loss", record.losses), ("train/grad_norm", record.grad_norms)):
        number = read_number(value.get(name))
        if number is not None:
            known[step] = number
    found = {name: read_number(v) for name, v in value.items() if name.startswith("eval/")}
    metrics = {name: number for name, number in found.items() if number is not None}
    if metrics:
        record.evaluations[step] = metrics


def _history(checkpoints: Path, first: int, last: int) -> list[tuple[int, float]]:
    """Return the losses of a range of steps from the newest checkpoint."""
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
