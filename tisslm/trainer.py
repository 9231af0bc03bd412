"""The Trainer: parts composed by name or given as objects, and one update of the parameters.

What does not live here: the formula of any part (its class), the passes (the model), building
parts (``parts``), what one update does (``update``), the way from the first step to the last
(``loop``), what a checkpoint holds (``snapshot``), and files (``checkpoint``, ``run``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tisslm import checkpoint, ops, snapshot, update
from tisslm.config import TrainingConfig
from tisslm.contracts import Dataset, Model, Tokenizer
from tisslm.errors import ConfigError
from tisslm.evaluate import evaluate
from tisslm.fitting import few_windows, fit_dataset
from tisslm.leaving import Leaving
from tisslm.loop import Loop
from tisslm.loss_history import LossHistory
from tisslm.loss_scaling import make_scaler
from tisslm.monitoring import Monitoring, wants_of
from tisslm.movement import Movement
from tisslm.parts import Parts, Wanted, build_parts, describe
from tisslm.planning import Planner
from tisslm.precision import resolve_precision
from tisslm.preparation import prepare_model
from tisslm.profiling import Profile
from tisslm.registry import Registry, load_registry
from tisslm.reporting import is_monitored
from tisslm.run_choice import keeping, open_run
from tisslm.samples import make_sampler
from tisslm.saving import DirectSaver, Saver
from tisslm.sites import Room, planned_room
from tisslm.stopping import Stopping, check_bytes, check_evaluations
from tisslm.target_weights import TargetWeights
from tisslm.trainer_state import TrainerState

__all__ = ["Trainer"]

Array = NDArray[Any]


class Trainer:
    """Train a model.

    A part is a registered name, a pair of name and options, or an object.

    Parameters
    ----------
    model : Model
    optimizer : str, (str, dict) or Optimizer
        Built with ``config.learning_rate``; an object brings its own.
    loss_fn : str, (str, dict) or Loss
    scheduler : str, (str, dict) or Scheduler
        ``max_steps`` is filled in when it is left out.
    dataset : Dataset, optional
        Needed by ``train``; ``train_step`` takes arrays.
    config : TrainingConfig, optional
    val_dataset : Dataset, optional
    sinks, monitors : iterable of parts
    communicator : str, (str, dict) or Communicator
    tokenizer : Tokenizer, optional
        Kept in checkpoints, so that text can be generated from them; left out, the dataset's.
    settings : mapping, optional
        The whole resolved configuration, when there is one beyond these arguments.
    registry : Registry, optional
        Where names are looked up; left out, every installed part.

    Attributes
    ----------
    loss_history : sequence of float
        The loss of every update.
    current_step : int
        Number of updates made.
    current_epoch : int
    max_steps : int
        Updates of the whole run.
    loss_scale : float
        What the gradients of the next step are multiplied by; 1 unless the precision is fp16.
    skipped_steps : int
        Steps that made no update: their gradients overflowed under the loss scale, or they were
        not finite, or a spike.
    stopped : str
        Why the last ``train`` ended before ``max_steps``: the name of a signal, or the time limit;
        "" if it did not.
    planned : int
        Bytes that the run is planned to take, beyond ``imports``.
    imports : int
        Bytes that the interpreter and its libraries held when the Trainer was built.
    stopping : tisslm.stopping.Stopping
        The best evaluation so far, and whether the run is to end for want of a better one:
        ``stopping.summary()``, ``stopping.ended``.
    profile : tisslm.profiling.Profile or None
        What ``config.profile_steps`` has recorded.
    run : RunDirectory
    retention : tisslm.checkpoint.Retention
        Which checkpoints are kept.

    Examples
    --------
    >>> trainer = Trainer(model, optimizer="adamw", scheduler="warmup_cosine",
    ...                   dataset=dataset, config=TrainingConfig(max_steps=100))  # doctest: +SKIP
    >>> trainer.train()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Model,
        optimizer: Any = "adamw",
        loss_fn: Any = "cross_entropy",
        scheduler: Any = "warmup_cosine",
        dataset: Dataset | None = None,
        config: TrainingConfig | None = None,
        *,
        val_dataset: Dataset | None = None,
        sinks: Iterable[Any] = ("console", "jsonl"),
        monitors: Iterable[Any] = (),
        communicator: Any = "local",
        tokenizer: Tokenizer | None = None,
        settings: Mapping[str, Any] | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.config = config = TrainingConfig() if config is None else config
        if config.threads is not None:
            ops.set_threads(config.threads)
        self.registry = load_registry() if registry is None else registry
        self.model = model
        given = self._fit(dataset, "dataset"), self._fit(val_dataset, "val_dataset")
        self.dataset, self.val_dataset = few_windows(*given, config)
        self.max_steps = config.max_steps or config.epochs * max(1, self.steps_per_epoch)
        monitors = tuple(monitors)
        planner = self._planner(optimizer, monitors)
        self.passes = prepare_model(planner)
        plan = planner.plan(self.passes.activation_checkpointing)
        self.planned, self.imports = plan.total, plan.imports
        wanted = Wanted(optimizer, loss_fn, scheduler, sinks, monitors, communicator)
        parts = self._take_parts(wanted)
        self.tokenizer = tokenizer or getattr(dataset, "tokenizer", None)
        self.sampler = make_sampler(model, self.tokenizer, config)
        self.settings = describe(config, model, parts) if settings is None else settings
        self.state = TrainerState(loss_history=LossHistory(room=self.max_steps))
        self.targets = TargetWeights()
        self.monitoring = self._monitoring(planner.time)
        self.grad_norm = math.nan
        self.observed: dict[str, Any] = {}
        self.leaving = Leaving(self.communicator)
        self.stopped = ""
        self.profile: Profile | None = None
        self.saver: Saver = DirectSaver(self._write_checkpoint)
        self.retention = keeping(config, self.val_dataset is not None)
        self.stopping = Stopping(config)
        check_evaluations(config, self.scheduler.needs_evaluations, self.val_dataset is not None)
        check_bytes(config, self.tokenizer is not None)
        self.run, saved = open_run(config, self.settings)
        if saved is not None:
            self.load_checkpoint(saved)

    def _planner(self, optimizer: Any, monitors: tuple[Any, ...]) -> Planner:
        precision = resolve_precision(self.config.precision)
        given = (self.dataset, self.val_dataset)
        return Planner(
            self.model,
            self.config,
            optimizer,
            self.registry,
            datasets=given,
            precision=precision,
            monitors=monitors,
        )

    def _monitoring(self, time: int) -> Monitoring:
        rows, precision = self.config.batch_size, self.passes.precision
        wants = wants_of(self.monitors)
        room = Room(planned_room(wants, self.model, rows, time, precision))
        return Monitoring(self.monitors, self.model, room)

    def _take_parts(self, wanted: Wanted) -> Parts:
        parts = build_parts(self.registry, wanted, self.model, self.config, self.max_steps)
        self.optimizer, self.scheduler = parts.optimizer, parts.scheduler
        self.loss_fn, self.communicator = parts.loss_fn, parts.communicator
        self.monitors, self.sinks = parts.monitors, parts.sinks
        self.validation_loss = parts.validation_loss
        self.scaler = make_scaler(self.model.parameters, self.config, self.passes.precision)
        measures = self.optimizer.measures_movement
        self.movement = Movement(self.model.parameters) if measures else None
        self.optimizer.gate = self.scaler.admit if self.passes.precision == "fp16" else None
        return parts

    def _fit(self, dataset: Dataset | None, where: str) -> Dataset | None:
        if dataset is not None:
            fit_dataset(dataset, self.model, where, self.rows_per_update, self.config.seed)
        return dataset

    # ------------------------------------------------------------------ position

    @property
    def loss_history(self) -> LossHistory:
        """The loss of every update, in nats."""
        return self.state.loss_history

    @property
    def current_step(self) -> int:
        """Number of updates made."""
        return self.state.step

    @property
    def current_epoch(self) -> int:
        """Number of passes over the dataset that are complete."""
        return self.state.epoch

    @property
    def skipped_steps(self) -> int:
        """Number of steps that made no update; each has used up its windows."""
        return self.state.skipped

    @property
    def loss_scale(self) -> float:
        """What the gradients of the next step are multiplied by."""
        return self.scaler.scale

    @property
    def rows_per_update(self) -> int:
        """Rows of one update."""
        return self.config.batch_size * self.config.gradient_accumulation_steps

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass over the dataset, the last of which may be smaller."""
        return 0 if self.dataset is None else -(-len(self.dataset) // self.rows_per_update)

    # ------------------------------------------------------------------ one update

    def train_step(self, x: Array, y: Array, start: Array | None = None) -> float:
        """Make one optimizer update.

        A step whose loss or gradients are not finite makes none, with a warning; nor does one
        whose loss is a spike, if ``config.spike_action`` is "skip". In fp16, neither does one
        whose gradients overflow: it halves the loss scale. Such a step counts in
        ``skipped_steps`` and not in ``current_step``.

        Parameters
        ----------
        x, y : integer ndarrays of shape (B, T)
            Inputs and targets of the whole update; cut into micro-batches of
            ``config.batch_size`` rows. A target of -100 is none.
        start : integer ndarray of shape (B, T), optional
            Position in its row at which the document of each token begins; left out, a row is one
            document.

        Returns
        -------
        float
            The mean loss over all real targets of the window, in nats.

        Raises
        ------
        ShapeError, DataError
            If the arrays do not fit each other or the model, or there is no target.
        NonFiniteError, SpikeError
            If the run is to stop at such a step: by ``config.on_nonfinite`` or
            ``config.spike_action``, or because there were ``config.max_nonfinite`` in a row.
            Nothing was updated then.
        """
        self.monitoring.begin(is_monitored(self.current_step + 1, self.config, self.max_steps))
        loss = update.accumulate(self, x, y, start)
        update.apply(self, x, y, loss, start)
        self.state.tokens_seen += x.size * self.communicator.size
        self.state.epoch = self.state.position // max(1, self.steps_per_epoch)
        return loss

    def backward(self, d_logits: Array, cache: Any) -> None:
        """Add the gradients of all parameters, given the loss's by the logits.

        In fp16, they are ``loss_scale`` times what they are; ``compute_grad_norm``,
        ``clip_gradients`` and the optimizer's next step divide that out.
        """
        scale = self.scaler.begin()
        if scale != 1.0:
            d_logits = d_logits * d_logits.dtype.type(scale)
            self.optimizer.scale_next_step(1.0 / scale)
        self.model.backward(d_logits, cache)

    def compute_grad_norm(self) -> float:
        """Compute the Euclidean norm of all gradients together, without the loss scale."""
        return self.scaler.norm()

    def clip_gradients(self, max_norm: float) -> float:
        """Make the next update use gradients of at most this norm; return the norm as it is.

        Parameters
        ----------
        max_norm : float
            0 leaves the gradients as they are.
        """
        norm = self.compute_grad_norm()
        update.clip(self, max_norm, norm)
        return norm

    def zero_gradients(self) -> None:
        """Forget all gradients."""
        self.optimizer.zero_grad()

    # ------------------------------------------------------------------ a run

    def train(self) -> None:
        """Train until ``max_steps`` updates are made, with reports, evaluations and checkpoints.

        Ends with an evaluation, a checkpoint and ``summary.json`` in the run directory; earlier,
        if ``config.early_stopping_patience`` evaluations in a row were no better than one before
        (``stopping.ended``). With ``config.restore_best``, the trainer then goes back to the best
        checkpoint, with all that it has: parameters, optimizer, position, losses.

        SIGTERM, SIGINT, SIGUSR1 and SIGUSR2, ``max_time`` and the end of a Slurm job end it
        early: what was accumulated is dropped, the state of the last update is saved, and
        ``stopped`` says why. A second signal stops at once.

        Raises
        ------
        ConfigError
            If there is no dataset, or another trainer is at work in the run directory.
        CheckpointError
            If the last checkpoint cannot be written.
        NonFiniteError, SpikeError
            If the run is to stop at a step that is not applied (``train_step``), or a parameter
            is not finite when it is to be saved.
        KeyboardInterrupt
            At a second signal; nothing is saved.
        """
        if self.dataset is None:
            raise ConfigError("trainer.train: no dataset was given; pass dataset= to the Trainer")
        Loop(self, self.dataset).run()

    def validate(self, dataset: Dataset) -> float:
        """Compute the mean cross-entropy over every window of a dataset, in nats per target.

        Cross-entropy whatever the training loss is, so that runs can be compared.
        """
        fit_dataset(dataset, self.model, "validate", self.rows_per_update, self.config.seed)
        rows = self.config.batch_size
        return evaluate(self.model, dataset, self.validation_loss, batch_size=rows).loss

    def save_checkpoint(self, epoch: int, step: int) -> Path:
        """Write ``checkpoint-<step>`` in the run directory and delete those that nothing keeps.

        Parameters
        ----------
        epoch, step : int
            Kept as the trainer's position; a custom loop passes its own.

        Returns
        -------
        Path
        """
        self.state.epoch, self.state.step = epoch, step
        self.run.make()
        return self.saver.write_now(step, snapshot.take(self))

    def _write_checkpoint(self, step: int, found: checkpoint.Checkpoint) -> Path:
        """Write a state that was taken before; the thread of ``saving`` may be who calls."""
        path = checkpoint.write(self.run.checkpoints, step, found)
        self.run.known.add(path.name)
        checkpoint.prune(self.run.checkpoints, self.retention, path)
        return path

    def load_checkpoint(self, path: checkpoint.Where) -> None:
        """Take over parameters, optimizer, schedule and position from a checkpoint.

        Parameters
        ----------
        path : str, Path or Found
            Whatever ``tisslm.checkpoint.find`` understands.

        Raises
        ------
        CheckpointError
            If it is missing, damaged, or made for another model, tokenizer or optimizer; then
            nothing was changed.
        """
        self.state = snapshot.restore(self, path)
        self.zero_gradients()
        self.scheduler.step(self.state.step)
