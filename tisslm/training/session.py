"""The session: everything that a run consists of once it is composed.

Only the loop is given the whole of it, and what stands above the Trainer takes it from there;
everything below gets what it needs.

A session is made in ``composition``, and led from the first step to the last by ``loop``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tisslm import checkpoint
from tisslm.checkpoint.remote_run import RemoteRun
from tisslm.checkpoint.run_directory import RunDirectory
from tisslm.checkpoint.saver import CheckpointCopy, DirectSaver, Saver, make_saver
from tisslm.config import TrainingConfig
from tisslm.contracts import Dataset, Rows
from tisslm.errors import ConfigError
from tisslm.tracking.profiling import Profile
from tisslm.training.batches import steps_per_epoch, window_numbers
from tisslm.training.components import Components
from tisslm.training.early_stopping import Stopping
from tisslm.training.interruption import Leaving
from tisslm.training.memory_plan.passes import Passes
from tisslm.training.ranks.agreement import rows_of_all
from tisslm.training.ranks.findings import first_finding
from tisslm.training.ranks.placing import Place
from tisslm.training.ranks.states import lead
from tisslm.training.refusals.guard import Verdict
from tisslm.training.refusals.incident_files import write_file
from tisslm.training.refusals.incidents import IncidentContext, describe
from tisslm.training.refusals.telling import tell_refusal
from tisslm.training.samples import Sampler
from tisslm.training.snapshot import Snapshot
from tisslm.training.state import TrainerState
from tisslm.training.step import Step, StepResult

__all__ = ["Session"]

T = TypeVar("T")


@dataclass
class Session:
    """Everything of a run.

    Attributes
    ----------
    config : TrainingConfig
    settings : mapping
        The whole resolved configuration.
    parts : Components
    passes : Passes
        How passes are run.
    planned : int
        Bytes that the run is planned to take, beyond ``imports``.
    imports : int
        Bytes that the interpreter and its libraries held when it was planned.
    max_steps : int
        Updates of the whole run.
    step : Step
    snapshot : Snapshot
    run : RunDirectory or RemoteRun
    retention : Retention
        Which checkpoints are kept.
    leaving : Leaving
    stopping : Stopping
    sampler : Sampler or None
    state : TrainerState
        The position.
    saver : Saver
    places : sequence of Place
        Where the ranks are; empty for one alone.
    stopped : str
        Why the last run of the loop ended before ``max_steps``, "" if it did not.
    profile : Profile or None
    """

    config: TrainingConfig
    settings: Mapping[str, Any]
    parts: Components
    passes: Passes
    planned: int
    imports: int
    max_steps: int
    step: Step
    snapshot: Snapshot
    run: RunDirectory | RemoteRun
    retention: checkpoint.Retention
    leaving: Leaving
    stopping: Stopping
    sampler: Sampler | None
    state: TrainerState
    saver: Saver = field(init=False)
    places: Sequence[Place] = ()
    stopped: str = ""
    profile: Profile | None = None

    def __post_init__(self) -> None:
        self.saver = DirectSaver(self._write_checkpoint)

    # ------------------------------------------------------------------ steps

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass over the dataset, the last of which may be smaller."""
        return steps_per_epoch(self.parts.dataset, self.config)

    def dataset(self, where: str) -> Dataset:
        """Return what is trained on.

        Parameters
        ----------
        where : str
            What messages begin with.

        Raises
        ------
        ConfigError
            If there is none.
        """
        if self.parts.dataset is None:
            raise ConfigError(f"{where}: no dataset was given; pass dataset= to the Trainer")
        return self.parts.dataset

    def batches(self, where: str, most: int | None = None) -> Iterator[Rows]:
        """Open the data where the run stands; a batch is good until the next but one.

        What preferences are compared with is computed now, if it is not known.

        Parameters
        ----------
        where : str
            What messages begin with.
        most : int, optional
            How many batches will be asked for, so that a trial of a few steps is short.

        Raises
        ------
        ConfigError
            If there is no dataset.
        CheckpointError, NonFiniteError
            Where ``Reference.find`` raises them.
        """
        config, dataset, share = self.config, self.dataset(where), self.parts.reduction.share
        if self.parts.reference is not None:
            position, only = self.state.position, None
            if most is not None:
                only = window_numbers(dataset, config, position, most)
            trained = self.parts.model.parameters.updates > 0
            self.parts.reference.find(self.leaving.check, trained=trained, only=only)
        rows, start = config.rows_per_update, self.state.position
        if share.size == 1:
            return dataset.stream(rows, config.seed, start=start)
        return dataset.stream_part(rows, config.seed, start, share.own_rows)

    def train_step(self, rows: Rows) -> StepResult:
        """Make one step of the rows of a whole update, and move on.

        Parameters
        ----------
        rows : Rows
            Those of the whole update, with arrays of shape (B, T).

        Raises
        ------
        ShapeError, DataError, NonFiniteError
            Where ``Step.make`` raises them.
        NonFiniteError, SpikeError
            If the step was refused, and the run is to stop at it.
        """
        state = self.state
        result = self.step.make(rows, state)
        if result.refused is not None:
            self._refuse(rows, result, result.refused)
        state.tokens_seen += result.tokens
        state.epoch = state.position // max(1, self.steps_per_epoch)
        self.snapshot.note(result, state)
        return result

    def _refuse(self, rows: Rows, result: StepResult, verdict: Verdict) -> None:
        """Look into a refused step, note it down, count it, and tell it."""
        nonfinite, context = verdict.kind == "nonfinite", self._incident_context()
        finding = self.step.investigate(rows) if nonfinite else None
        if finding is not None:
            share = self.parts.reduction.share
            finding = first_finding(self.parts.communicator, finding, share)
        rows = rows_of_all(self.parts.communicator, rows)
        incident = describe(context, verdict.kind, rows, result.loss, result.grad_norm, finding)
        file = write_file(incident, self.run.path) if self.run.made else None
        if not verdict.stop:
            self.state.count_refusal()
        tell_refusal(
            incident,
            verdict,
            number=context.refused_in_a_row + 1,
            limit=self.config.max_nonfinite,
            file=file,
            stuck=self.parts.scaler.stuck,
            precision=self.passes.precision,
        )

    def _incident_context(self) -> IncidentContext:
        state, config = self.state, self.config
        return IncidentContext(
            step=state.step,
            position=state.position,
            refused_in_a_row=state.refused_in_a_row,
            seed=config.seed,
            rows_per_update=config.rows_per_update,
            run_path=self.run.path,
            checkpoints=self.run.checkpoints,
            dataset=self.parts.dataset,
            from_file="data" in self.settings,
        )

    # ------------------------------------------------------------------ the state

    def take(self) -> checkpoint.Checkpoint:
        """Return all that the run needs to go on; arrays are views."""
        return self.snapshot.take(self.state)

    def restore(self, path: checkpoint.Where) -> None:
        """Go to where a checkpoint is.

        Parameters and errors are those of ``Snapshot.restore``.
        """
        self.state = self.snapshot.restore(path, self.max_steps)

    @contextmanager
    def kept(self, where: str) -> Iterator[None]:
        """Put everything that steps change back at the end, also if an error ends them.

        It is copied first, which takes as much memory once more.

        Parameters
        ----------
        where : str
            What messages begin with.
        """
        if self.parts.communicator.size > 1:
            raise ConfigError(
                f"{where}: expected one process, got {self.parts.communicator.size} ranks; start "
                "it without a launcher"
            )
        taken, parts = self.take(), self.parts
        copy = CheckpointCopy(taken).take(taken)
        rate, epoch = parts.optimizer.get_lr(), 0 if parts.dataset is None else parts.dataset.epoch
        try:
            yield
        finally:
            self.state = self.snapshot.put_back(copy, Path(where), self.max_steps)
            parts.optimizer.set_lr(rate)
            if parts.dataset is not None:
                parts.dataset.epoch = epoch

    def save(self) -> None:
        """Save as the run is told to: at once, or from a copy while it goes on.

        Raises
        ------
        CheckpointError
            If it cannot be written, or the one before it could not.
        """
        found, step = self.take(), self.state.step
        self._lead(found, lambda: self.saver.save(step, found))

    def save_now(self) -> Path:
        """Write a checkpoint of now while the caller waits, and return its directory."""
        if self.run.made:
            self.run.confirm()
        else:
            self.run.make()
        found, step = self.take(), self.state.step
        written = self._lead(found, lambda: self.saver.write_now(step, found))
        return self.run.checkpoints if written is None else written

    def make_saver(self) -> int:
        """Take the memory that saving needs, and return the bytes that a checkpoint has."""
        found = self.take()
        background, write = self.config.async_save, self.saver.write
        made = self._lead(found, lambda: make_saver(write, found, background=background))
        self.saver = self.saver if made is None else made
        return found.nbytes

    def _lead(self, found: checkpoint.Checkpoint, action: Callable[[], T]) -> T | None:
        """Do something with a state that was taken, while the other ranks give what it asks for.

        None is what these return.
        """
        return lead(found.files.values(), action)

    def _write_checkpoint(self, step: int, found: checkpoint.Checkpoint) -> Path:
        """Write a state that was taken before; the thread of ``saving`` may be who calls."""
        within = self.run.confirm_checkpoints()
        self.parts.communicator.beat("a checkpoint")
        path = checkpoint.write(self.run.checkpoints, step, found, within=within)
        self.run.known.add(path.name)
        checkpoint.prune(self.run.checkpoints, self.retention, path)
        return path
