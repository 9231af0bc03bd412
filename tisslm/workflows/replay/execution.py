"""Replaying steps of a run, and comparing each with the run's record.

The record is read in ``record`` and ``incident_file``, the trainer is built in ``building``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tisslm import checkpoint
from tisslm.checkpoint.run_files import METRICS
from tisslm.contracts import Rows, Scheduler
from tisslm.errors import CheckpointError, ConfigError, DataError
from tisslm.training.nonfinite import Finding
from tisslm.training.refusals.incidents import with_window
from tisslm.training.refusals.windows import batch_windows
from tisslm.training.trainer import Trainer
from tisslm.workflows.replay.incident_file import RecordedIncident, known_incidents, read_incident
from tisslm.workflows.replay.outcome import Replayed, ReplayedStep
from tisslm.workflows.replay.record import Record, read_record
from tisslm.workflows.replay.start import find_start
from tisslm.workflows.replay.statistics import PlaceStatistics

__all__ = ["replay"]

OnStep = Callable[[ReplayedStep], None]


def replay(
    trainer: Trainer,
    step: int | None = None,
    *,
    file: str | Path | None = None,
    run: str | Path | None = None,
    metrics: Path | None = None,
    on_step: OnStep | None = None,
) -> Replayed:
    """Replay the steps of a run from the nearest checkpoint up to one of them.

    Parameters
    ----------
    trainer : Trainer
        A trainer composed like the run's, before its first step or at the checkpoint.
    step : int, optional
        Number of the update to make, from 1.
    file : path, optional
        The file of a step that was not applied, ``nonfinite-step-N.json``, instead of ``step``: the
        same batch meets the same parameters, and the search for the failing operation is repeated.
    run : path, optional
        Directory of the run; the trainer's if left out.
    metrics : Path, optional
        File of the sink ``jsonl``; ``metrics.jsonl`` in the directory if left out.
    on_step : callable, optional
        Called with each step after it was made.

    Returns
    -------
    Replayed

    Raises
    ------
    ConfigError
        If there is no dataset or no such step, or both or neither of step and file are given.
    CheckpointError
        If the steps before it cannot be replayed.
    NonFiniteError, SpikeError
        If an earlier step stops the replay, as it stopped the run.
    """
    folder = trainer.run.path if run is None else Path(run)
    incident = None if file is None else read_incident(Path(file))
    if (step is None) == (incident is None):
        raise ConfigError("replay: expected one of step and file, got both or neither")
    wanted = incident.step if incident is not None else int(step or 0)
    if not 1 <= wanted <= trainer.max_steps:
        raise ConfigError(
            f"replay: expected a step from 1 to {trainer.max_steps}, the last of the run, "
            f"got {wanted}"
        )
    checkpoints = folder / trainer.config.checkpoint_dir
    start = find_start(checkpoints, wanted, None if incident is None else incident.position)
    _go_to(trainer, start, wanted, incident)
    lines = folder / METRICS if metrics is None else metrics
    record = read_record(lines, checkpoints, trainer.current_step, wanted)
    done = _Replay(trainer, record, _not_recurring(folder, incident), on_step)
    if trainer.state.evaluation.get("step") != trainer.current_step:  # saved before it was made
        done.tell_schedule(trainer.current_step)
    done.outcome.start = "" if start is None else str(start.path)
    if incident is None:
        done.to_step(wanted)
        done.compare(checkpoints / f"checkpoint-{wanted}")
    else:
        done.to_incident(incident)
    return done.outcome


def _go_to(
    trainer: Trainer, start: checkpoint.Found | None, step: int, incident: RecordedIncident | None
) -> None:
    """Bring the trainer to the state where the replay begins."""
    at = 0 if start is None else start.manifest.step
    if start is not None and trainer.current_step != at:
        trainer.load_checkpoint(start)
    if trainer.current_step >= step:
        raise ConfigError(
            f"replay: expected a trainer before step {step}, got one at step "
            f"{trainer.current_step}; build it anew, or choose a later step if the run began there"
        )
    if incident is not None and incident.arrays is not None and trainer.current_step != step - 1:
        raise CheckpointError(
            f"replay: step {step} was made of arrays given to train_step, and so may be those "
            f"before: expected a checkpoint of step {step - 1}, got one of {trainer.current_step}; "
            "load the state of that step yourself and call train_step"
        )


def _not_recurring(folder: Path, target: RecordedIncident | None) -> set[int]:
    """Return the batches that the run skipped for a fault that did not occur a second time."""
    found = {one.position for one in known_incidents(folder) if one.recurs is False}
    return found - {target.position} if target is not None else found


class _Replay:
    """A replay in progress: it makes the steps and collects the results."""

    def __init__(
        self, trainer: Trainer, record: Record, left_out: set[int], on_step: OnStep | None
    ) -> None:
        self.trainer = trainer
        self.record = record
        self.left_out = left_out
        self.on_step = on_step
        self.outcome = Replayed()

    # ------------------------------------------------------------------ to a step

    def to_step(self, step: int) -> None:
        """Make steps up to that update."""
        for rows in self._batches():
            self._make(rows)
            if self.trainer.current_step >= step:
                return

    def to_incident(self, incident: RecordedIncident) -> None:
        """Make the steps before one that was not applied, and examine that one."""
        state = self.trainer.state
        if incident.arrays is None:
            for rows in self._batches():
                if state.position >= incident.position:
                    self._look_into(rows, incident)
                    return
                if self.trainer.current_step >= incident.step:
                    raise DataError(
                        f"replay: expected step {incident.step} to have batch {incident.position}, "
                        f"as its file says, got one before {state.position}; the file is of "
                        "another run or damaged, give one of this run"
                    )
                self._make(rows)
        else:
            self._look_into(incident.arrays, incident)

    def _batches(self) -> Iterator[Rows]:
        """Yield the batches of the run, without those that a passing fault has used up."""
        state = self.trainer.state
        for rows in self.trainer.session.batches("replay"):
            if state.position in self.left_out:
                state.count_refusal()
                continue
            yield rows

    # ------------------------------------------------------------------ steps

    def _make(self, rows: Rows) -> None:
        """Make a step as the run made it: an update, or none."""
        trainer, seen = self.trainer, PlaceStatistics()
        step, position = trainer.current_step + 1, trainer.state.position
        with trainer.model.observed(seen):
            made = trainer.session.train_step(rows)
        self._add(
            ReplayedStep(
                step=step,
                position=position,
                loss=made.loss,
                grad_norm=made.grad_norm,
                learning_rate=made.learning_rate,
                applied=made.applied,
                recorded_loss=self.record.losses.get(step) if made.applied else None,
                recorded_grad_norm=self.record.grad_norms.get(step) if made.applied else None,
                statistics=seen.rows if made.applied else [],
            )
        )
        if made.applied:
            self.tell_schedule(step)

    def tell_schedule(self, step: int) -> None:
        """Tell a schedule with memory the result of the run's evaluation after a step."""
        scheduler = self.trainer.scheduler
        metrics = self.record.evaluations.get(step)
        if metrics is None or type(scheduler).observe is Scheduler.observe:
            return
        if np.isfinite(metrics.get("eval/loss", np.nan)):
            scheduler.observe(metrics)
            scheduler.step(step)  # as after the run's evaluations

    def _look_into(self, rows: Rows, incident: RecordedIncident) -> None:
        """Run the passes of a step that was not applied, and the search for what failed."""
        trainer, seen = self.trainer, PlaceStatistics()
        lr, position = trainer.scheduler.get_lr(), trainer.state.position
        with trainer.model.observed(seen), np.errstate(all="ignore"):
            loss = trainer.session.step.gradients(rows).loss
        norm = trainer.compute_grad_norm()
        loss_then, norm_then = incident.expected
        self._add(
            ReplayedStep(
                step=incident.step,
                position=position,
                loss=loss,
                grad_norm=norm,
                learning_rate=lr,
                applied=False,
                recorded_loss=loss_then,
                recorded_grad_norm=norm_then,
                statistics=seen.rows,
            )
        )
        if incident.kind == "nonfinite":
            finding = trainer.session.step.investigate(rows)
            if incident.arrays is None:
                finding = self._with_window(finding)
            self.outcome.finding = finding
            self.outcome.fault_is_same = _same_finding(finding, incident)

    def _with_window(self, finding: Finding) -> Finding:
        trainer, dataset = self.trainer, self.trainer.dataset
        if dataset is None:
            return finding
        rows, seed = trainer.rows_per_update, trainer.config.seed
        windows = batch_windows(dataset, rows, seed, trainer.state.position)
        return with_window(finding, windows) or finding

    def _add(self, step: ReplayedStep) -> None:
        self.outcome.steps.append(step)
        if self.on_step is not None:
            self.on_step(step)

    # ------------------------------------------------------------------ comparing

    def compare(self, path: Path) -> None:
        """Compare the arrays that updates compute with those in a checkpoint of the same step."""
        session = self.trainer.session
        try:
            differences = session.snapshot.differences(path, session.state)
        except CheckpointError:
            return
        self.outcome.checkpoint = str(path)
        self.outcome.differences += differences


def _same_finding(finding: Finding, incident: RecordedIncident) -> bool | None:
    """Return True if the finding is that of the run, None if either search found nothing.

    Messages are not compared.
    """
    if incident.recurs is None or finding.recurs is None:
        return None
    ours = finding.as_json()
    theirs = incident.finding or {}
    return all(ours[name] == theirs.get(name) for name in ("recurs", "fault"))
