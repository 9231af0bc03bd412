"""Incidents: what is known of a step that was not applied.

Its samples, where it failed, and how to make it again. Which steps are not applied is decided in
``guard``; what failed is searched for in ``nonfinite``; an incident is written by
``incident_files`` and told by ``telling``; steps are made again by ``tisslm.workflows.replay``.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import checkpoint
from tisslm.contracts import Dataset, Rows
from tisslm.system.strict_json import plain_number
from tisslm.training.nonfinite import Finding
from tisslm.training.refusals.windows import windows_of

__all__ = ["Incident", "IncidentContext", "describe", "with_window"]

Array = NDArray[Any]
#: How many samples a message names; the file names them all.
SHOWN = 8


@dataclass(frozen=True)
class IncidentContext:
    """The position and the files of the run in which a step was refused.

    Attributes
    ----------
    step : int
        Updates made before it.
    position : int
        Number of its batch, from 0, in the order of the run.
    refused_in_a_row : int
        Steps before this one, since the last update, that were refused.
    seed, rows_per_update : int
    run_path, checkpoints : Path
        The run directory, and the folder of its checkpoints.
    dataset : Dataset or None
    from_file : bool
        Whether the run was made from a configuration, so that a command can make it again.
    """

    step: int
    position: int
    refused_in_a_row: int
    seed: int
    rows_per_update: int
    run_path: Path
    checkpoints: Path
    dataset: Dataset | None
    from_file: bool


@dataclass(frozen=True)
class Incident:
    """A step that was not applied.

    Attributes
    ----------
    kind : {"nonfinite", "spike"}
    step : int
        Number of the update that it would have been.
    position : int
        Number of the batch, from 0, in the order of the run.
    loss, grad_norm : float
    windows : list of int or None
        Numbers of the dataset's windows; None if the arrays were not this batch of the dataset.
    rows : int
        How many rows the step had.
    seed, rows_per_update : int
    checkpoint : str or None
        The checkpoint in the run directory to start a replay from; None is the start of the run.
    file : str
        Name of the file in the run directory that says all this.
    command : str or None
        The command that makes the same step again; None if the run was not made from a
        configuration.
    python : list of str
        Lines of Python that make it again, for a trainer that is built as in the run.
    arrays : dict of str to list, or None
        ``x``, ``y`` and ``start`` of the step, where ``windows`` is None.
    finding : Finding or None
        Where it fails; None for a spike.
    """

    kind: str
    step: int
    position: int
    loss: float
    grad_norm: float
    windows: list[int] | None
    rows: int
    seed: int
    rows_per_update: int
    checkpoint: str | None
    file: str
    command: str | None
    python: list[str]
    arrays: dict[str, Any] | None
    finding: Finding | None

    @property
    def samples(self) -> str:
        """The rows of the step, in the words of a message."""
        if self.windows is None:
            return f"rows 0 to {self.rows - 1} of the arrays given to train_step"
        shown = ", ".join(map(str, self.windows[:SHOWN]))
        more = f" and {len(self.windows) - SHOWN} more" if len(self.windows) > SHOWN else ""
        return f"windows {shown}{more} of the dataset (batch {self.position})"

    def replay(self, written: Path | None) -> str:
        """How to make the step again, in the words of a message.

        Parameters
        ----------
        written : Path or None
            The file, if it could be written.
        """
        if self.windows is None:
            return "train_step with the same arrays"
        if self.command is None:
            return "; ".join(self.python)
        begin = self.command.partition(" --file ")[0]
        return self.command if written is not None else f"{begin} --step {self.step}"


def describe(
    context: IncidentContext,
    kind: str,
    made_of: Rows,
    loss: float,
    norm: float,
    finding: Finding | None = None,
) -> Incident:
    """Find out what is known of a step that was refused.

    Parameters
    ----------
    context : IncidentContext
    kind : {"nonfinite", "spike"}
    made_of : Rows
        The rows of the step.
    loss, norm : float
    finding : Finding, optional
    """
    dataset, windows = context.dataset, None
    if dataset is not None:
        order = context.rows_per_update, context.seed, context.position
        windows = windows_of(made_of, dataset, *order)
    saved = next(reversed(checkpoint.list_checkpoints(context.checkpoints)), None)
    file = _file_name(kind, context.step + 1, context.refused_in_a_row + 1)
    return Incident(
        kind=kind,
        step=context.step + 1,
        position=context.position,
        loss=loss,
        grad_norm=norm,
        windows=windows,
        rows=len(made_of.x),
        seed=context.seed,
        rows_per_update=context.rows_per_update,
        checkpoint=None if saved is None else os.path.relpath(saved, context.run_path),
        file=file,
        command=_command(context, file),
        python=_python(context, saved, windows is not None),
        arrays=None if windows is not None else _plain_arrays(made_of),
        finding=with_window(finding, windows),
    )


def _file_name(kind: str, step: int, number: int) -> str:
    """Return ``<kind>-step-<N>.json``; from the second in a row on, its number is in it, too."""
    last = "" if number == 1 else f"-{number}"
    return f"{kind}-step-{step}{last}.json"


def _plain_arrays(rows: Rows) -> dict[str, Any]:
    return {name: _plain(array) for name, array in rows.arrays.items()}


def _plain(array: Array) -> Any:
    """Return lists of numbers, or of words where a float is not finite."""
    if array.dtype.kind != "f":
        return array.tolist()
    numbers = [plain_number(number) for number in array.ravel().tolist()]
    return np.array(numbers, dtype=object).reshape(array.shape).tolist()


def with_window(finding: Finding | None, windows: list[int] | None) -> Finding | None:
    """Add to a fault the window of the dataset that it was found in, where both are known."""
    fault = None if finding is None else finding.fault
    if finding is None or fault is None or windows is None or fault.row is None:
        return finding
    if fault.row >= len(windows):
        return finding
    return replace(finding, fault=replace(fault, window=windows[fault.row]))


def _python(context: IncidentContext, saved: Path | None, of_dataset: bool) -> list[str]:
    """Return the lines that make the step again, with a trainer built as in the run."""
    lines = [] if saved is None else [f"trainer.load_checkpoint({str(saved)!r})"]
    if of_dataset:
        order = f"{context.rows_per_update}, {context.seed}, start=trainer.state.position"
        lines += [
            f"batches = trainer.dataset.batches({order})",
            "losses = [trainer.train_step(*next(batches)) for _ in "
            f"range(trainer.state.position, {context.position + 1})]",
        ]
    return lines


def _command(context: IncidentContext, file: str) -> str | None:
    """Return the command that makes the step again and looks into it."""
    if not context.from_file:  # composed in Python: no file has all of it
        return None
    path = context.run_path
    return shlex.join(["tisslm", "replay", str(path), "--file", str(path / file)])
