"""What is known of a step that was not applied: its samples, and how to see it again.

What does not live here: which steps are not applied, and whether the run goes on (``rejection``).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tisslm import checkpoint
from tisslm.contracts import Dataset
from tisslm.json_numbers import plain_number

if TYPE_CHECKING:
    from tisslm.trainer import Trainer

__all__ = ["Incident", "batch_windows", "describe"]

Array = NDArray[Any]

#: How many samples a message names; the file names them all.
SHOWN = 8


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
        Of the arrays.
    seed, rows_per_update : int
    checkpoint : str or None
        What to start from, in the run directory; None is the start of the run.
    command : str or None
        What makes the same step again; None if the run was not made from a configuration.
    python : list of str
        The same, for a trainer that is built as in the run.
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
    command: str | None
    python: list[str]

    @property
    def samples(self) -> str:
        """Which rows it had, in the words of a message."""
        if self.windows is None:
            return f"rows 0 to {self.rows - 1} of the arrays given to train_step"
        shown = ", ".join(map(str, self.windows[:SHOWN]))
        more = f" and {len(self.windows) - SHOWN} more" if len(self.windows) > SHOWN else ""
        return f"windows {shown}{more} of the dataset (batch {self.position})"

    @property
    def replay(self) -> str:
        """How to make the step again, in the words of a message."""
        if self.windows is None:
            return "train_step with the same arrays"
        return self.command or "; ".join(self.python)

    def write(self, directory: Path, number: int) -> Path | None:
        """Write ``<kind>-step-<N>.json``; return its path, None if that could not be done.

        Parameters
        ----------
        directory : Path
            Of the run; nothing is written where there is none.
        number : int
            Of the steps that were not applied since the last update; from the second on it is
            part of the name.
        """
        last = "" if number == 1 else f"-{number}"
        path = directory / f"{self.kind}-step-{self.step}{last}.json"
        value = {
            **vars(self),
            "loss": plain_number(self.loss),
            "grad_norm": plain_number(self.grad_norm),
        }
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
            return path
        return None


def batch_windows(dataset: Dataset, rows: int, seed: int, position: int) -> list[int]:
    """Return the numbers of the windows of a batch, by the order of ``Dataset.batches``.

    Parameters
    ----------
    dataset : Dataset
    rows : int
        Of a batch.
    seed : int
    position : int
        Number of the batch, from 0, over all epochs.
    """
    epoch, within = divmod(position, -(-len(dataset) // rows))
    order, first = dataset.order(seed, epoch), within * rows
    return [int(order[row]) for row in range(first, min(first + rows, len(dataset)))]


def describe(trainer: Trainer, kind: str, x: Array, y: Array, loss: float, norm: float) -> Incident:
    """Find out what is known of the step that the trainer has just refused.

    Parameters
    ----------
    trainer : Trainer
        Before it counts the step.
    kind : {"nonfinite", "spike"}
    x, y : integer ndarrays of shape (B, T)
        Of the step.
    loss, norm : float
    """
    config, state, run = trainer.config, trainer.state, trainer.run
    windows = _windows_of(trainer, x, y)
    saved = next(reversed(checkpoint.list_checkpoints(run.checkpoints)), None)
    python = [] if saved is None else [f"trainer.load_checkpoint({str(saved)!r})"]
    if windows is not None:
        rows, begin = trainer.rows_per_update, "start=trainer.state.position"
        python += [
            f"batches = trainer.dataset.batches({rows}, {config.seed}, {begin})",
            "losses = [trainer.train_step(*next(batches)) for _ in "
            f"range(trainer.state.position, {state.position + 1})]",
        ]
    return Incident(
        kind=kind,
        step=state.step + 1,
        position=state.position,
        loss=loss,
        grad_norm=norm,
        windows=windows,
        rows=len(x),
        seed=config.seed,
        rows_per_update=trainer.rows_per_update,
        checkpoint=None if saved is None else os.path.relpath(saved, run.path),
        command=_command(trainer, saved),
        python=python,
    )


def _windows_of(trainer: Trainer, x: Array, y: Array) -> list[int] | None:
    """Return the windows that a step was made of, if it was the dataset's next batch."""
    dataset = trainer.dataset
    if dataset is None:
        return None
    rows, seed = trainer.rows_per_update, trainer.config.seed
    numbers = batch_windows(dataset, rows, seed, trainer.state.position)
    if len(numbers) != len(x):
        return None
    for row, number in enumerate(numbers):
        window = dataset.window(number)
        if not (np.array_equal(window[0], x[row]) and np.array_equal(window[1], y[row])):
            return None
    return numbers


def _command(trainer: Trainer, saved: Path | None) -> str | None:
    """Return the command that trains from the last checkpoint over this step once more."""
    if "data" not in trainer.settings:  # composed in Python: no file has all of it
        return None
    path = trainer.run.path
    resume = [] if saved is None else ["--resume", str(saved)]
    if resume and trainer.config.resume_from:  # of the configuration, which says where it began
        resume += ["--set", "training.resume_from="]
    output = ["--set", f"training.output_dir={path / 'replay'}"]
    return shlex.join(["tisslm", "train", str(path / "config.resolved.toml"), *resume, *output])
