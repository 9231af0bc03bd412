"""Incidents: what is known of a step that was not applied, as a message and as a file.

The message and the file name the step's samples, where it failed, and how to make it again. Which
steps are not applied is decided in ``guard``; what failed is searched for in ``nonfinite``; steps
are made again by ``tisslm.workflows.replay``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import checkpoint
from tisslm.contracts import Dataset, Rows
from tisslm.errors import DataError, NonFiniteError, SpikeError, TissLMError
from tisslm.system.durable import replacing
from tisslm.system.safe_files import Refusal
from tisslm.system.strict_json import plain_number, read_json
from tisslm.training.nonfinite import Finding
from tisslm.training.refusals.guard import Verdict

__all__ = [
    "NOT_ONE",
    "Incident",
    "IncidentContext",
    "batch_windows",
    "describe",
    "read_file",
    "set_aside",
    "tell_refusal",
    "with_window",
]

Array = NDArray[Any]
#: How many samples a message names; the file names them all.
SHOWN = 8
#: Bytes and values of a file that has the arrays of a step.
LARGEST, MOST_VALUES = 2**28, 2**25
NOT_ONE = Refusal(
    DataError,
    "not the file of a step that was not applied",
    "give a nonfinite-step-N.json or spike-step-N.json of the run, or --step",
)


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

    def write(self, directory: Path) -> Path | None:
        """Write the file; return its path, None if that could not be done.

        Parameters
        ----------
        directory : Path
            The run directory; nothing is written where there is none.
        """
        path = directory / self.file
        value = {
            **vars(self),
            "loss": plain_number(self.loss),
            "grad_norm": plain_number(self.grad_norm),
            "finding": None if self.finding is None else self.finding.as_json(),
        }
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            with replacing(path) as file:
                file.write(f"{json.dumps(value, indent=1)}\n".encode())
            _drop_same(path)
            return path
        return None


def _drop_same(path: Path) -> None:
    """Delete the file that was set aside, where the batch has led to the same again."""
    aside = path.with_name(f"superseded-{path.name}")
    with contextlib.suppress(FileNotFoundError):
        if aside.read_bytes() == path.read_bytes():
            aside.unlink()


def set_aside(directory: Path, position: int) -> None:
    """Rename the files of batches that a run which begins at a position takes again.

    ``nonfinite-step-N.json`` becomes ``superseded-nonfinite-step-N.json``, as later checkpoints
    do: a replay must not leave out what the run has made after all.

    Parameters
    ----------
    directory : Path
        The run directory.
    position : int
        Number of the next batch; files that cannot be read are left alone.
    """
    for path in [*directory.glob("nonfinite-step-*.json"), *directory.glob("spike-step-*.json")]:
        with contextlib.suppress(OSError, TissLMError):
            found = read_file(path).get("position")
            if isinstance(found, int) and found >= position:
                path.replace(path.with_name(f"superseded-{path.name}"))


def read_file(path: Path) -> dict[str, Any]:
    """Read the file of a step that was not applied, within limits.

    Raises
    ------
    DataError
        If it is no JSON object of a size that such a file may have.
    """
    return read_json(path, LARGEST, NOT_ONE, max_values=MOST_VALUES)


def batch_windows(dataset: Dataset, rows: int, seed: int, position: int) -> list[int]:
    """Return the numbers of the windows of a batch, by the order of ``Dataset.batches``.

    Parameters
    ----------
    dataset : Dataset
    rows : int
        How many rows a batch has.
    seed : int
    position : int
        Number of the batch, from 0, over all epochs.
    """
    epoch, within = divmod(position, -(-len(dataset) // rows))
    order, first = dataset.order(seed, epoch), within * rows
    return [int(order[row]) for row in range(first, min(first + rows, len(dataset)))]


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
    windows = _windows_of(context, made_of)
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


def _windows_of(context: IncidentContext, rows: Rows) -> list[int] | None:
    """Return the windows that a step was made of, if it was the dataset's next batch."""
    dataset = context.dataset
    if dataset is None:
        return None
    numbers = batch_windows(dataset, context.rows_per_update, context.seed, context.position)
    if len(numbers) != len(rows.x):
        return None
    same = (_same(rows.row(i), dataset.window(number)) for i, number in enumerate(numbers))
    return numbers if all(same) else None


def _same(row: Rows, window: Rows) -> bool:
    ours, theirs = row.arrays, window.arrays
    if ours.keys() != theirs.keys():
        return False
    return all(_equal(ours[name], theirs[name]) for name in ours)


def _equal(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


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


def tell_refusal(
    incident: Incident,
    verdict: Verdict,
    *,
    number: int,
    limit: int,
    file: Path | None,
    stuck: str,
    precision: str,
) -> None:
    """Warn of a step that was not applied, or raise where the run is to stop at it.

    Parameters
    ----------
    incident : Incident
    verdict : Verdict
    number, limit : int
        How many steps in a row were refused, this one included, and how many end the run.
    file : Path or None
        The file that the incident was written to.
    stuck : str
        What to do about a loss scale that cannot be lowered, "" if it can.
    precision : {"fp32", "bf16", "fp16"}

    Raises
    ------
    NonFiniteError
        If loss or norm is not finite, and the run is to stop at it: at once, or because it is
        the ``max_nonfinite``-th step in a row that was not applied.
    SpikeError
        If the loss is a spike, and the run is to stop at it.
    """
    noted = f"; more in {file}" if file is not None else ""
    found = "" if incident.finding is None else f"; {incident.finding.words}"
    begin = f"step {incident.step}: {verdict.what}{found}"
    if not verdict.stop:
        warnings.warn(
            f"{begin}; not applied, {number} in a row (training.max_nonfinite = {limit}): "
            f"{incident.samples}{noted}",
            RuntimeWarning,
            stacklevel=5,
        )
        return
    row = f" the {number} steps in a row that were not applied end the run;" if number > 1 else ""
    error = NonFiniteError if verdict.kind == "nonfinite" else SpikeError
    raise error(
        f"{begin};{row} the parameters are those of step {incident.step - 1}. It was made of "
        f"{incident.samples}{noted}. {_advice(incident, stuck, precision)}. To make it again: "
        f"{incident.replay(file)}"
    )


def _advice(incident: Incident, stuck: str, precision: str) -> str:
    if incident.kind == "spike":
        return (
            "Lower training.learning_rate or look at these samples; training.spike_action = "
            '"warn" goes on over spikes'
        )
    finding = incident.finding
    fault = None if finding is None else finding.fault
    if finding is not None and finding.recurs is False:
        return "Go on from the last checkpoint, on another machine or after a test of this one"
    if fault is not None and fault.kind in ("parameter", "state"):
        return (
            "The model itself is damaged: go on from the last checkpoint, with a lower "
            "training.learning_rate if this comes back"
        )
    first = stuck or "Lower training.learning_rate"
    advice = f"{first}, lengthen the warm-up, or look at these samples"
    if precision != "fp16":
        return advice
    return f'{advice}, or train with training.precision = "bf16", which has the range of fp32'
