"""The Trainer: what users of the library call to train.

It is a thin front. ``composition`` builds its parts and its session, ``loop`` leads from the first
step to the last, and ``step`` makes one. Nothing below imports it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, overload

from numpy.typing import NDArray

from tisslm import checkpoint, ops
from tisslm.config import EmaConfig, TrainingConfig
from tisslm.contracts import Dataset, Network, Rows, Tokenizer
from tisslm.contracts.model import language_model
from tisslm.errors import ConfigError
from tisslm.registry import Registry, load_registry
from tisslm.training.batches import fit_dataset
from tisslm.training.components import Given, Wanted
from tisslm.training.composition import compose
from tisslm.training.evaluation import evaluate_model
from tisslm.training.loop import Loop
from tisslm.training.memory_plan.planner import RunPlan
from tisslm.training.session import Session

__all__ = ["Trainer"]

Array = NDArray[Any]
T = TypeVar("T")


class _Shown(Generic[T]):
    """An attribute of the Trainer that shows something of its session, and cannot be assigned.

    Parameters
    ----------
    get : callable
        It returns the value, given the session.
    """

    def __init__(self, get: Callable[[Session], T]) -> None:
        self._get = get
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, trainer: None, owner: type) -> Self: ...

    @overload
    def __get__(self, trainer: Trainer, owner: type | None = None) -> T: ...

    def __get__(self, trainer: Trainer | None, owner: type | None = None) -> T | Self:
        return self if trainer is None else self._get(trainer.session)

    def __set__(self, trainer: Trainer, value: object) -> None:
        raise AttributeError(
            f"trainer.{self._name}: a run is made of what its Trainer was given; build another one"
        )


class Trainer:
    """Train a model.

    A part is a registered name, a pair of name and options, or an object.

    Parameters
    ----------
    model : Network
    optimizer : str, (str, dict) or Optimizer
        Built with ``config.learning_rate``; an object brings its own.
    loss_fn : str, (str, dict) or Loss
    scheduler : str, (str, dict), Scheduler or callable
        ``max_steps`` is filled in when it is left out. A function of the number of updates made
        returns a factor of the learning rate.
    dataset : Dataset, optional
        Needed by ``train``; ``train_step`` takes arrays.
    config : TrainingConfig, optional
    val_dataset : Dataset, optional
    sinks, monitors : iterable of parts
    communicator : str, (str, dict) or Communicator
    ema : EmaConfig, optional
        Keeps an average of the weights, which is evaluated and saved beside them.
    tokenizer : Tokenizer, optional
        Kept in checkpoints, so that text can be generated from them; left out, the dataset's.
    settings : mapping, optional
        The whole resolved configuration, when there is one beyond these arguments.
    registry : Registry, optional
        Where names are looked up; left out, every installed part.
    plan : RunPlan, optional
        What was settled for these parts before the model took its memory; ``monitors`` are then
        those that it has built. Left out, the run is planned here.

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
        The factor by which the gradients of the next step are multiplied; 1 unless the precision
        is fp16.
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
    stopping : tisslm.training.early_stopping.Stopping
        The best evaluation so far, and whether the run is to end for want of a better one:
        ``stopping.summary()``, ``stopping.ended``.
    profile : tisslm.tracking.profiling.Profile or None
        The steps that ``config.profile_steps`` has recorded.
    run : RunDirectory
    retention : tisslm.checkpoint.Retention
        Which checkpoints are kept.
    session : tisslm.training.session.Session
        All of the run, for what is built on a Trainer.

    Examples
    --------
    >>> trainer = Trainer(model, optimizer="adamw", scheduler="warmup_cosine",
    ...                   dataset=dataset, config=TrainingConfig(max_steps=100))  # doctest: +SKIP
    >>> trainer.train()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Network,
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
        ema: EmaConfig | None = None,
        tokenizer: Tokenizer | None = None,
        settings: Mapping[str, Any] | None = None,
        registry: Registry | None = None,
        plan: RunPlan | None = None,
    ) -> None:
        config = TrainingConfig() if config is None else config
        if config.threads is not None:
            ops.set_threads(config.threads)
        registry = load_registry() if registry is None else registry
        wanted = Wanted(optimizer, loss_fn, scheduler, sinks, monitors, communicator, ema)
        given = Given(model, dataset, val_dataset, tokenizer)
        self.session, saved = compose(wanted, given, config, registry, settings=settings, plan=plan)
        if saved is not None:
            self.load_checkpoint(saved)

    # ------------------------------------------------------------------ what it is made of

    config = _Shown(lambda session: session.config)
    settings = _Shown(lambda session: session.settings)
    model = _Shown(lambda session: session.parts.model)
    optimizer = _Shown(lambda session: session.parts.optimizer)
    scheduler = _Shown(lambda session: session.parts.scheduler)
    loss_fn = _Shown(lambda session: session.parts.loss)
    validation_loss = _Shown(lambda session: session.parts.validation_loss)
    communicator = _Shown(lambda session: session.parts.communicator)
    monitors = _Shown(lambda session: session.parts.monitors)
    sinks = _Shown(lambda session: session.parts.sinks)
    dataset = _Shown(lambda session: session.parts.dataset)
    val_dataset = _Shown(lambda session: session.parts.val_dataset)
    tokenizer = _Shown(lambda session: session.parts.tokenizer)
    scaler = _Shown(lambda session: session.parts.scaler)
    passes = _Shown(lambda session: session.passes)
    planned = _Shown(lambda session: session.planned)
    imports = _Shown(lambda session: session.imports)
    run = _Shown(lambda session: session.run)
    retention = _Shown(lambda session: session.retention)
    leaving = _Shown(lambda session: session.leaving)
    saver = _Shown(lambda session: session.saver)

    # ------------------------------------------------------------------ where it stands

    state = _Shown(lambda session: session.state)
    stopping = _Shown(lambda session: session.stopping)
    stopped = _Shown(lambda session: session.stopped)
    profile = _Shown(lambda session: session.profile)
    max_steps = _Shown(lambda session: session.max_steps)
    steps_per_epoch = _Shown(lambda session: session.steps_per_epoch)
    rows_per_update = _Shown(lambda session: session.config.rows_per_update)
    loss_history = _Shown(lambda session: session.state.loss_history)
    current_step = _Shown(lambda session: session.state.step)
    current_epoch = _Shown(lambda session: session.state.epoch)
    skipped_steps = _Shown(lambda session: session.state.skipped)
    loss_scale = _Shown(lambda session: session.parts.scaler.scale)

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
            The mean loss over all real targets, in nats.

        Raises
        ------
        ShapeError, DataError
            If the arrays do not fit each other or the model, or there is no target.
        NonFiniteError, SpikeError
            If the run is to stop at such a step: by ``config.on_nonfinite`` or
            ``config.spike_action``, or because there were ``config.max_nonfinite`` in a row.
            Nothing was updated then.
        """
        return self.session.train_step(Rows(x, y, start)).loss

    def backward(self, d_logits: Array, cache: Any) -> None:
        """Add the gradients of all parameters, given the loss's by the logits.

        In fp16, they are ``loss_scale`` times what they are; ``compute_grad_norm``,
        ``clip_gradients`` and the optimizer's next step divide that out.

        Raises
        ------
        ConfigError
            If the run has several ranks, whose gradients nobody would add up.
        """
        ranks = self.communicator.size
        if ranks > 1:
            raise ConfigError(
                f"trainer.backward: expected one process, got {ranks} ranks; use train_step, which "
                "adds up the gradients of all"
            )
        scale = self.scaler.begin()
        if scale != 1.0:
            d_logits = d_logits * d_logits.dtype.type(scale)
        if self.passes.precision == "fp16":
            self.optimizer.scale_next_step(1.0 / scale, self.scaler.admit)
        language_model(self.model, "trainer.backward").backward(d_logits, cache)

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
        self.session.step.clip(max_norm, norm)
        return norm

    def zero_gradients(self) -> None:
        """Forget all gradients; parameters are then where the next ones are to be taken."""
        self.session.parts.show(average=False)
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
        self.session.dataset("trainer.train")  # first of all: there must be one
        Loop(self.session).run()

    def validate(self, dataset: Dataset) -> float:
        """Compute the mean cross-entropy over every window of a dataset, in nats per target.

        Cross-entropy whatever the training loss is, so that runs can be compared; of an encoder,
        the training loss over every example, NaN where it cannot be computed.
        """
        fit_dataset(dataset, self.model, "validate", self.rows_per_update, self.config.seed)
        loss = evaluate_model(self.session.parts, dataset, self.config).loss
        return math.nan if loss is None else loss

    def averaged(self) -> AbstractContextManager[None]:
        """Return a context within which the model has the average of its weights.

        They come back exactly at its end. Whatever trains or saves goes outside of it.

        Raises
        ------
        ConfigError
            When it is entered, if the run keeps no average.
        """
        return self.session.parts.averaged()

    def save_checkpoint(self, epoch: int, step: int) -> Path:
        """Write ``checkpoint-<step>`` in the run directory and delete those that nothing keeps.

        Parameters
        ----------
        epoch, step : int
            Kept as the trainer's position; a custom loop passes its own.

        Returns
        -------
        Path

        Raises
        ------
        RunDirectoryError
            If the run directory was renamed, removed or replaced since the first one.
        CheckpointError
            If it cannot be written.
        """
        self.state.epoch, self.state.step = epoch, step
        return self.session.save_now()

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
        self.session.restore(path)
