"""A run from its first step to its last: batches, reports, evaluations, checkpoints, summary.

What does not live here: what a step does (``Trainer.train_step``), what ends a run early
(``leaving``), what an evaluation tells whom (``evaluations``), how checkpoints get to the disk
(``saving``).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from tisslm import checkpoint, incidents, ops, snapshot
from tisslm.contracts import Dataset, RunInfo
from tisslm.environment import describe_environment
from tisslm.errors import CheckpointError, ConfigError, DataError, RunDirectoryError, SinkError
from tisslm.evaluations import evaluate_now
from tisslm.leaving import Leave
from tisslm.ownership import Owner
from tisslm.prefetch import Prefetch
from tisslm.profiling import TRACE, Profiler
from tisslm.reporting import is_logged
from tisslm.run_choice import was_begun
from tisslm.saving import is_failed_write, make_saver
from tisslm.step_metrics import StepMetrics
from tisslm.stopping import TRAIN_LOSS, recent_loss
from tisslm.time_limits import time_limits

if TYPE_CHECKING:
    from tisslm.trainer import Trainer

__all__ = ["Loop"]


class Loop:
    """Drive a trainer to the end of its run.

    Parameters
    ----------
    trainer : Trainer
    dataset : Dataset
        What it trains on.
    """

    def __init__(self, trainer: Trainer, dataset: Dataset) -> None:
        self.trainer = trainer
        self.dataset = dataset
        self.metrics = StepMetrics(trainer)
        self.owner: Owner | None = None
        self._begun = False
        self._saved: tuple[int, int] | None = None

    def run(self) -> None:
        """Make every step that is left, or those before the run is asked to end."""
        trainer = self.trainer
        ops.refuse_fork("trainer.train")
        trainer.stopped = trainer.stopping.ended = ""
        trainer.run.make()
        with ExitStack() as stack:
            stack.enter_context(trainer.leaving.armed(time_limits(trainer.config.max_time)))
            if trainer.communicator.rank == 0:
                self.owner = stack.enter_context(Owner(trainer.run.path))
            self._prepare()
            self._run()
            trainer.stopping.ended = trainer.stopping.reason
            if trainer.config.restore_best and not trainer.stopped:
                self._restore_best()

    def _prepare(self) -> None:
        """Make the directory this run's, and take the memory that saving needs."""
        trainer = self.trainer
        if trainer.config.resume_target == "auto":
            trainer.run.refuse_strangers()
            self._begun = was_begun(trainer.run, trainer.settings)
        trainer.run.clean()
        trainer.run.write_config(trainer.settings)
        trainer.run.write_environment(describe_environment())
        checkpoint.clean(trainer.run.checkpoints)
        checkpoint.set_aside(trainer.run.checkpoints, trainer.current_step)
        incidents.set_aside(trainer.run.path, trainer.state.position)
        self._finish_writing()  # of a train() that a second signal ended
        found = snapshot.take(trainer)
        nbytes = sum(a.nbytes for part in (found.model, found.optimizer) for a in part.values())
        background = trainer.config.async_save
        trainer.saver = make_saver(trainer.saver.write, found, background=background)
        trainer.leaving.save_seconds = lambda: trainer.saver.expected_seconds(nbytes)

    def _run(self) -> None:
        trainer = self.trainer
        start, status = time.perf_counter(), "failed"
        try:
            trainer.sinks.open(self._run_info())
            self.metrics.begin()
            self._train()
            status = "stopped" if trainer.stopped else "completed"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except BaseException:
            with suppress(RunDirectoryError):
                self._finish_writing()
            raise
        finally:
            trainer.sinks.close()
            self._summarize(status, time.perf_counter() - start)

    def _train(self) -> None:
        """Train; a run directory that has gone meanwhile ends it, after a save where it is now."""
        try:
            self._train_here()
        except RunDirectoryError as error:
            self._save_elsewhere(error)

    def _save_elsewhere(self, lost: RunDirectoryError) -> None:
        """Save in the directory that was renamed, or in one that is made anew and whole.

        Raises
        ------
        RunDirectoryError
        """
        trainer = self.trainer
        if not trainer.run.recover():
            raise RunDirectoryError(
                f"{lost}, and nothing was written there; choose another training.output_dir"
            ) from lost
        if self.owner is not None:
            self.owner.move(trainer.run.path)
        trainer.run.write_config(trainer.settings)
        trainer.run.write_environment(describe_environment())
        with suppress(CheckpointError, RunDirectoryError):  # of the thread that saves
            trainer.saver.wait()
        trainer.zero_gradients()  # those of a window that is dropped
        self._saved = None
        self._save_last()
        raise RunDirectoryError(
            f"{lost}; the run was saved in {trainer.run.path} at step {trainer.current_step} and "
            "ends; go on there with training.output_dir and --resume auto"
        ) from lost

    def _train_here(self) -> None:
        """Make the steps, and save the state of the last update, whatever ended them."""
        trainer = self.trainer
        try:
            self._steps()
            evaluate_now(self.trainer)
        except Leave as leave:
            trainer.stopped = leave.reason
            trainer.zero_gradients()  # those of a window that is dropped
            trainer.leaving.announce(f"{leave.reason}: saving at step {trainer.current_step}")
        except (SinkError, DataError, OSError):  # the last update is whole
            self._save_before_error()
            raise
        self._save_last()

    def _save_before_error(self) -> None:
        """Save what was reached when a sink, or data that can no longer be read, end the run."""
        trainer = self.trainer
        if not trainer.leaving.progressed:
            return
        trainer.zero_gradients()  # those of a window that is dropped
        trainer.leaving.announce(f"saving at step {trainer.current_step}")
        with suppress(SinkError):  # of another sink
            self._save_last()

    def _save_last(self) -> None:
        """Save the state of the last update, unless that is what was saved last."""
        trainer = self.trainer
        self._finish_writing()
        if self._saved != self._position() or trainer.saver.failures:
            self._make_durable()
            trainer.save_checkpoint(trainer.current_epoch, trainer.current_step)

    def _run_info(self) -> RunInfo:
        trainer = self.trainer
        return RunInfo(
            directory=trainer.run.path,
            name=trainer.config.name,
            config=trainer.settings,
            rank=trainer.communicator.rank,
            resumed_step=trainer.current_step,
            max_steps=trainer.max_steps,
            parameters=trainer.model.parameters.count,
            begun=self._begun,
        )

    # ------------------------------------------------------------------ steps

    def _steps(self) -> None:
        trainer = self.trainer
        self._catch_up()
        windows = self.dataset.stream(
            trainer.rows_per_update, trainer.config.seed, start=trainer.state.position
        )
        with Prefetch(windows, trainer.leaving.check) as batches, self._profiled() as profiler:
            while trainer.current_step < trainer.max_steps and not trainer.stopping.due:
                trainer.leaving.check_together(self.metrics.rate.longest)
                trainer.run.confirm()
                with profiler.step(trainer.current_step + 1):
                    made = self._step(batches, profiler)
                if made:
                    trainer.leaving.progressed = True
                    self._after_step(batches)

    @contextmanager
    def _profiled(self) -> Iterator[Profiler]:
        """Make the recorder of some steps; the trainer gets what it has recorded."""
        trainer = self.trainer
        wanted = trainer.config.profile_steps if trainer.communicator.rank == 0 else 0
        left = trainer.max_steps - trainer.current_step
        profiler = Profiler(wanted, left, trainer.run.path / TRACE, trainer.model)
        try:
            yield profiler
        finally:
            profiler.close()
            trainer.profile = profiler.profile

    def _step(self, batches: Prefetch, profiler: Profiler) -> bool:
        """Take a batch and make an update of it; tell whether there was one."""
        trainer, start = self.trainer, time.perf_counter()
        before, lr = trainer.current_step, trainer.scheduler.get_lr()
        with profiler.span("batch"):
            batch = next(batches)
        waited = time.perf_counter() - start
        loss = trainer.train_step(*batch)
        self.metrics.add(batch[0].shape, waited, time.perf_counter() - start)
        if trainer.current_step == before:  # skipped
            return False
        metrics, trainer.observed = trainer.observed, {}
        if is_logged(trainer.current_step, trainer.config, trainer.max_steps):
            metrics = {**self.metrics.line(loss, lr), **metrics}
        if metrics:
            with profiler.span("report"):
                trainer.sinks.write(trainer.current_step, metrics)
        return True

    def _after_step(self, batches: Prefetch) -> None:
        """Sample, evaluate and save when it is their turn, while nothing else reads the dataset."""
        self._sample()
        self._look_at_losses()
        if self._evaluates():
            batches.settle()
            evaluate_now(self.trainer)
        if self._saves() or self._keeps():
            batches.settle()
            self._save()

    def _catch_up(self) -> None:
        """Make samples and evaluation of the last step, which the run left out when it left."""
        step = self.trainer.current_step
        self._sample()
        self._look_at_losses()
        if step and self._evaluates() and self.trainer.state.evaluation.get("step") != step:
            evaluate_now(self.trainer)
            if self._saves() or self._keeps():
                self._save()

    def _look_at_losses(self) -> None:
        """Where the run goes by the losses of training, look at them when it would evaluate."""
        trainer, every = self.trainer, self.trainer.config.validation_frequency
        step = trainer.current_step
        if trainer.stopping.standing.metric == TRAIN_LOSS and step and every and step % every == 0:
            loss = recent_loss(trainer.loss_history, trainer.config)
            trainer.stopping.observe(step, {TRAIN_LOSS: loss})

    def _evaluates(self) -> bool:
        """Tell whether it is time to evaluate: by the steps, or because the best are kept."""
        if self.trainer.val_dataset is None:
            return False
        frequency = self.trainer.config.validation_frequency
        is_time = frequency > 0 and self.trainer.current_step % frequency == 0
        return is_time or (self._saves() and self.trainer.retention.best > 0)

    def _saves(self) -> bool:
        trainer, every = self.trainer, self.trainer.config.save_every
        step = trainer.current_step
        return every > 0 and step % every == 0 and step < trainer.max_steps

    def _keeps(self) -> bool:
        """Tell whether this is the best so far, and to be gone back to."""
        trainer, step = self.trainer, self.trainer.current_step
        wanted = trainer.config.restore_best and trainer.stopping.is_best(step)
        return wanted and step < trainer.max_steps

    # ------------------------------------------------------------------ checkpoints

    def _restore_best(self) -> None:
        """Go back to the best checkpoint, unless that is where the trainer is."""
        standing = self.trainer.stopping.standing
        if standing.metric.startswith("eval/") and standing.best is None:
            warnings.warn(
                f"training.restore_best: no value of {standing.metric} was finite; the parameters "
                "stay those of the last step",
                RuntimeWarning,
                stacklevel=3,
            )
            return
        best = checkpoint.find(self.trainer.run.path / "best")
        if best.manifest.step != self.trainer.current_step:
            self.trainer.load_checkpoint(best)

    def _position(self) -> tuple[int, int]:
        return self.trainer.current_step, self.trainer.state.position

    def _make_durable(self) -> None:
        """Put on disk what a checkpoint of now must not be without: the metrics up to here."""
        self._confirm()
        self.trainer.sinks.sync()

    def _confirm(self) -> None:
        """Make sure that the directory is there and this run's: whatever writes in it asks."""
        self.trainer.run.confirm()
        if self.owner is not None:
            self.owner.confirm()

    def _save(self) -> None:
        """Save on the way; what the disk refuses is told, and tried again at the next interval."""
        trainer, policy = self.trainer, self.trainer.config.on_save_error
        self._make_durable()
        self._attempt(trainer.saver.wait, policy)
        state = snapshot.take(trainer)
        saved = self._attempt(lambda: trainer.saver.save(trainer.current_step, state), policy)
        self._saved = self._position() if saved else None

    def _finish_writing(self) -> None:
        """Wait for what is being written; its failure is told, for a save of now follows."""
        self._attempt(self.trainer.saver.wait, "continue")

    def _attempt(self, action: Callable[[], None], policy: str) -> bool:
        """Tell whether an action could be done; what is no fault of a disk is raised."""
        try:
            action()
        except CheckpointError as error:
            self.trainer.run.confirm()  # that the directory has gone says more
            if policy == "stop" or not is_failed_write(error):
                raise
            warnings.warn(
                f"{error}. Training goes on and tries again when the next checkpoint is due",
                RuntimeWarning,
                stacklevel=2,
            )
            return False
        return True

    # ------------------------------------------------------------------ reports

    def _sample(self) -> None:
        """Write text after the prompts when it is due, once per step."""
        trainer, state = self.trainer, self.trainer.state
        sampler, step = trainer.sampler, trainer.current_step
        if sampler is None or state.sampled_step == step:
            return
        if sampler.is_due(step, trainer.max_steps):
            trainer.sinks.write(step, sampler.texts(step, trainer.leaving.check))
            state.sampled_step = step

    def _summarize(self, status: str, seconds: float) -> None:
        trainer = self.trainer
        with suppress(ConfigError):  # a directory that was taken over is left as it is
            self._confirm()
            trainer.run.write_summary(
                {
                    "status": status,
                    "stopped_by": trainer.stopped or trainer.stopping.reason or None,
                    "steps": trainer.current_step,
                    "train_loss": trainer.loss_history[-1] if trainer.loss_history else None,
                    "eval_loss": trainer.state.evaluation.get("eval/loss"),
                    **self.metrics.summary(seconds),
                    "seconds": seconds,
                    "parameters": trainer.model.parameters.count,
                    "failed_saves": trainer.saver.failures,
                    "best": trainer.stopping.summary(),
                }
            )
