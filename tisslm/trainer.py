"""The Trainer: parts composed by name or given as objects, and the loop that drives them.

What does not live here: the formula of any part (its class), the passes (the model), files
(``checkpoint``, ``run``), and what is reported (``reporting``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tisslm import checkpoint, ops
from tisslm.config import TrainingConfig
from tisslm.contracts import (
    Batch,
    Communicator,
    Dataset,
    Loss,
    Model,
    Monitor,
    Optimizer,
    RunInfo,
    Scheduler,
    Tokenizer,
)
from tisslm.errors import ConfigError, DataError, NonFiniteError, ShapeError
from tisslm.evaluate import Evaluation, evaluate
from tisslm.fitting import fit_dataset
from tisslm.planning import Planner, fit_memory
from tisslm.plugins import tisslm_version
from tisslm.registry import Registry, load_registry
from tisslm.reporting import Rate, SinkGroup, check_monitors, memory_metrics, observe
from tisslm.run import open_run
from tisslm.target_weights import TargetWeights
from tisslm.trainer_state import TrainerState, warn_if_bits_differ

__all__ = ["Trainer"]

Array = NDArray[Any]

#: Added to the norm before it divides, as in PyTorch's clip_grad_norm_.
CLIP_EPS = 1e-6


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
    loss_history : list of float
        The loss of every update.
    current_step : int
        Number of updates made.
    current_epoch : int
    max_steps : int
        Updates of the whole run.
    run : RunDirectory

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
        self.registry = registry = load_registry() if registry is None else registry
        self.model = model
        self.dataset = self._fit(dataset, "dataset")
        self.val_dataset = self._fit(val_dataset, "val_dataset")
        self.max_steps = self._find_max_steps()
        fit_memory(self._planner(optimizer))
        build = registry.build
        self.optimizer: Optimizer = build(
            "optimizer", optimizer, model.parameters, config.learning_rate
        )
        self.scheduler: Scheduler = build(
            "scheduler",
            scheduler,
            self.optimizer,
            defaults={"max_steps": self.max_steps},
        )
        if self.optimizer.parameters is not model.parameters:
            raise ConfigError("optimizer: it was made for the parameters of another model")
        if self.scheduler.optimizer is not self.optimizer:
            raise ConfigError("scheduler: it was made for another optimizer than the Trainer's")
        self.loss_fn: Loss = build("loss", loss_fn)
        self._validation_loss: Loss = build("loss", "cross_entropy")
        self.communicator: Communicator = build("communicator", communicator)
        if self.communicator.size > 1:
            raise ConfigError(
                f"communicator: this version trains in one process, got {self.communicator.size}"
            )
        self.monitors = self._make_monitors(monitors)
        self._observed: dict[str, Any] = {}
        self.sinks = SinkGroup(build("sink", s) for s in sinks)
        self.tokenizer = tokenizer or getattr(dataset, "tokenizer", None)
        self.settings = self._settings() if settings is None else settings
        self._state = TrainerState()
        self._targets = TargetWeights()
        self._grad_norm = math.nan
        self._evaluation: tuple[int, Evaluation] | None = None
        self.run, saved = open_run(config, self.settings)
        if saved is not None:
            self.load_checkpoint(saved)

    def _make_monitors(self, monitors: Iterable[Any]) -> list[Monitor]:
        wanted = [*monitors, *(["gradient_norms"] if self.config.log_gradients else [])]
        made: list[Monitor] = [self.registry.build("monitor", monitor) for monitor in wanted]
        check_monitors(made)
        return made

    @property
    def loss_history(self) -> list[float]:
        """The loss of every update, in nats."""
        return self._state.loss_history

    @property
    def current_step(self) -> int:
        """Number of updates made."""
        return self._state.step

    @property
    def current_epoch(self) -> int:
        """Number of passes over the dataset that are complete."""
        return self._state.epoch

    # ------------------------------------------------------------------ preparation

    def _planner(self, optimizer: Any) -> Planner:
        return Planner(
            self.model,
            self.config,
            optimizer,
            self.registry,
            datasets=(self.dataset, self.val_dataset),
            precision=self.config.precision.replace("auto", "fp32"),
        )

    def _fit(self, dataset: Dataset | None, where: str) -> Dataset | None:
        if dataset is not None:
            fit_dataset(dataset, self.model, where, self._window_rows, self.config.seed)
        return dataset

    @property
    def _window_rows(self) -> int:
        """Rows of one update."""
        return self.config.batch_size * self.config.gradient_accumulation_steps

    @property
    def _steps_per_epoch(self) -> int:
        return 0 if self.dataset is None else -(-len(self.dataset) // self._window_rows)

    def _find_max_steps(self) -> int:
        if self.config.max_steps is not None:
            return self.config.max_steps
        return self.config.epochs * max(1, self._steps_per_epoch)

    def _settings(self) -> dict[str, Any]:
        """Describe a run that was composed in Python as far as names and values go."""
        found: dict[str, Any] = {"training": self.config.model_dump(exclude_none=True)}
        shape = getattr(self.model, "config", None)
        if shape is not None:
            found["model"] = shape.model_dump(exclude_none=True)
        for name in ("optimizer", "scheduler", "loss_fn"):
            part = getattr(self, name)
            plain = {k: v for k, v in vars(part).items() if isinstance(v, (bool, int, float, str))}
            options = {k: v for k, v in plain.items() if not k.startswith("_")}
            found[name.removesuffix("_fn")] = {"name": type(part).__name__, **options}
        return found

    # ------------------------------------------------------------------ one update

    def train_step(self, x: Array, y: Array) -> float:
        """Make one optimizer update.

        Parameters
        ----------
        x, y : integer ndarrays of shape (B, T)
            Inputs and targets of the whole update; cut into micro-batches of
            ``config.batch_size`` rows. A target of -100 is none.

        Returns
        -------
        float
            The mean loss over all real targets of the window, in nats.

        Raises
        ------
        NonFiniteError
            If loss or gradient norm is not finite; then nothing was updated.
        """
        if x.shape != y.shape or x.ndim != 2:
            raise ShapeError(
                f"train_step: expected x and y of one shape (B, T), got {x.shape} and {y.shape}"
            )
        comm = self.communicator
        count = int(comm.sum_scalars([float(self._targets.count(y))])[0])
        if count == 0:
            raise DataError("train_step: every target is -100; there is nothing to learn from")
        self.zero_gradients()
        loss = 0.0
        for first in range(0, len(x), self.config.batch_size):
            rows = slice(first, first + self.config.batch_size)
            batch = Batch(x[rows], y[rows], self._targets.weigh(y[rows], count))
            loss += self.model.step_loss(batch, self.loss_fn, first_row=first)
        loss = comm.sum_scalars([loss])[0]
        comm.sum_gradients(self.model.parameters.grad)
        self._apply(loss)
        self._state.tokens_seen += x.size * comm.size
        return loss

    def _apply(self, loss: float) -> None:
        """Check, clip, update, and move the learning rate on."""
        self._grad_norm = norm = self.compute_grad_norm()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NonFiniteError(
                f"step {self.current_step + 1}: the loss is {loss} and the gradient norm {norm}; "
                "the parameters are those of the step before. Lower training.learning_rate, "
                "lengthen the warm-up, or look at the data of this step"
            )
        if self.monitors and self._logs(self.current_step + 1):
            self._observed = observe(self.monitors, self.model.parameters)
        self._scale_to(self.config.max_grad_norm, norm)
        self.optimizer.step()
        state = self._state
        state.step += 1
        state.epoch = state.step // max(1, self._steps_per_epoch)
        state.loss_history.append(loss)
        self.scheduler.step(state.step)

    def backward(self, d_logits: Array, cache: Any) -> None:
        """Add the gradients of all parameters, given the loss's by the logits."""
        self.model.backward(d_logits, cache)

    def compute_grad_norm(self) -> float:
        """Compute the Euclidean norm of all gradients together."""
        return self.model.parameters.grad_norm()

    def clip_gradients(self, max_norm: float) -> float:
        """Make the next update use gradients of at most this norm; return the norm as it is.

        Parameters
        ----------
        max_norm : float
            0 leaves the gradients as they are.
        """
        norm = self.compute_grad_norm()
        self._scale_to(max_norm, norm)
        return norm

    def _scale_to(self, max_norm: float, norm: float) -> None:
        scale = max_norm / (norm + CLIP_EPS) if max_norm > 0.0 else 1.0
        if scale < 1.0:
            self.optimizer.scale_next_step(scale)

    def zero_gradients(self) -> None:
        """Forget all gradients."""
        self.optimizer.zero_grad()

    # ------------------------------------------------------------------ the loop

    def train(self) -> None:
        """Train until ``max_steps`` updates are made, with reports, evaluations and checkpoints.

        Ends with an evaluation, a checkpoint and ``summary.json`` in the run directory.
        """
        if self.dataset is None:
            raise ConfigError("trainer.train: no dataset was given; pass dataset= to the Trainer")
        self.run.make()
        self.run.write_config(self.settings)
        checkpoint.set_aside(self.run.checkpoints, self.current_step)
        start, rate, status = time.perf_counter(), Rate(), "failed"
        try:
            self.sinks.open(self._run_info())
            self._loop(self.dataset, rate)
            self._validate_now()
            self.save_checkpoint(self.current_epoch, self.current_step)
            status = "completed"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            self.sinks.close()
            self._summarize(status, time.perf_counter() - start, rate)

    def _run_info(self) -> RunInfo:
        return RunInfo(
            directory=self.run.path,
            name=self.config.name,
            config=self.settings,
            rank=self.communicator.rank,
            resumed_step=self.current_step,
            max_steps=self.max_steps,
            parameters=self.model.parameters.count,
        )

    def _loop(self, dataset: Dataset, rate: Rate) -> None:
        config = self.config
        windows = dataset.stream(self._window_rows, config.seed, start=self.current_step)
        while self.current_step < self.max_steps:
            start = time.perf_counter()
            x_BT, y_BT = next(windows)
            lr = self.scheduler.get_lr()
            loss = self.train_step(x_BT, y_BT)
            rate.add(x_BT.size, time.perf_counter() - start)
            step = self.current_step
            if self._logs(step):
                metrics = self._metrics(loss, lr, rate)
                metrics["train/step_time_ms"] = (time.perf_counter() - start) * 1e3
                self.sinks.write(step, metrics)
            if config.validation_frequency and step % config.validation_frequency == 0:
                self._validate_now()
            if config.save_every and step % config.save_every == 0 and step < self.max_steps:
                self.save_checkpoint(self.current_epoch, step)

    def _logs(self, step: int) -> bool:
        return step % self.config.logging_steps == 0 or step == self.max_steps

    def _metrics(self, loss: float, lr: float, rate: Rate) -> dict[str, Any]:
        return {
            "train/loss": loss,
            "train/perplexity": math.exp(min(loss, 700.0)),
            "train/learning_rate": lr,
            "train/grad_norm": self._grad_norm,
            "train/tokens_per_second": rate.recent,
            "train/epoch": self.current_step / max(1, self._steps_per_epoch),
            "train/num_input_tokens_seen": self._state.tokens_seen,
            **memory_metrics(),
            **self._observed,
        }

    def _validate_now(self) -> Evaluation | None:
        """Evaluate on the validation data, once per step, and report it."""
        if self.val_dataset is None:
            return None
        if self._evaluation is None or self._evaluation[0] != self.current_step:
            found = self._evaluate(self.val_dataset)
            self._evaluation = (self.current_step, found)
            metrics = {"eval/loss": found.loss, "eval/perplexity": found.perplexity}
            self.scheduler.observe(metrics)
            self.sinks.write(self.current_step, {**metrics, "eval/runtime": found.seconds})
        return self._evaluation[1]

    def _evaluate(self, dataset: Dataset) -> Evaluation:
        batch_size = self.config.batch_size
        return evaluate(self.model, dataset, self._validation_loss, batch_size=batch_size)

    def validate(self, dataset: Dataset) -> float:
        """Compute the mean cross-entropy over every window of a dataset, in nats per target.

        Cross-entropy whatever the training loss is, so that runs can be compared.
        """
        fit_dataset(dataset, self.model, "validate", self._window_rows, self.config.seed)
        return self._evaluate(dataset).loss

    def _summarize(self, status: str, seconds: float, rate: Rate) -> None:
        self.run.write_summary(
            {
                "status": status,
                "steps": self.current_step,
                "train_loss": self.loss_history[-1] if self.loss_history else None,
                "eval_loss": self._evaluation[1].loss if self._evaluation else None,
                "tokens_per_second": rate.overall,
                "seconds": seconds,
                "parameters": self.model.parameters.count,
            }
        )

    # ------------------------------------------------------------------ checkpoints

    def save_checkpoint(self, epoch: int, step: int) -> Path:
        """Write ``checkpoint-<step>`` in the run directory and delete those beyond the limit.

        Parameters
        ----------
        epoch, step : int
            Kept as the trainer's position; a custom loop passes its own.

        Returns
        -------
        Path
        """
        self._state.epoch, self._state.step = epoch, step
        self.run.make()
        path = checkpoint.write(self.run.checkpoints, step, self._checkpoint())
        checkpoint.prune(self.run.checkpoints, self.config.keep_checkpoints, path)
        return path

    def _checkpoint(self) -> checkpoint.Checkpoint:
        """Return all that the run needs to go on; arrays are views."""
        shape = getattr(self.model, "config", None)
        return checkpoint.Checkpoint(
            model=self.model.parameters.state(),
            model_config={} if shape is None else shape.model_dump(),
            optimizer=self.optimizer.state(),
            trainer={
                **self._conditions(),
                **self._state.as_json(),
                "updates": self.model.parameters.updates,
                "scheduler": self.scheduler.state(),
            },
            tokenizer=checkpoint.tokenizer_state(self.tokenizer, self.registry),
        )

    def _conditions(self) -> dict[str, Any]:
        config = self.config
        return {
            "version": tisslm_version(),
            "engine": ops.engine(),
            "seed": config.seed,
            "model_seed": getattr(self.model, "seed", None),
            "batch_size": config.batch_size,
            "rows_per_update": self._window_rows,
            "windows": None if self.dataset is None else len(self.dataset),
            "learning_rate": config.learning_rate,
            "max_grad_norm": config.max_grad_norm,
        }

    def load_checkpoint(self, path: str | Path) -> None:
        """Take over parameters, optimizer, schedule and position from a checkpoint.

        Parameters
        ----------
        path : str or Path
            Whatever ``tisslm.checkpoint.resolve`` understands.

        Raises
        ------
        CheckpointError
            If it is missing, damaged, or made for another model, tokenizer or optimizer; then
            nothing was changed.
        """
        where = checkpoint.resolve(path)
        found, own = checkpoint.read(where), self._checkpoint()
        state = TrainerState.from_json(found.trainer, where / "trainer_state.json")
        checkpoint.check_same(found, own, str(where))
        warn_if_bits_differ(found.trainer, self._conditions())
        self.optimizer.load_state(found.optimizer)  # which checks before it copies
        for name, array in own.model.items():
            array[...] = found.model[name]
        self.scheduler.load_state(found.trainer.get("scheduler", {}))
        self.model.parameters.updates = state.updates
        self._state, self._evaluation = state, None
        if self.dataset is not None:
            self.dataset.epoch = state.epoch
        self.zero_gradients()
        self.scheduler.step(state.step)
