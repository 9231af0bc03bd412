"""A run from its first step to its last: batches, reports, evaluations, summary.

What a step does is in ``training.step``, what is saved in ``saves``, what ends a run early in
``training.interruption`` and ``training.early_stopping``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from tisslm import checkpoint, ops
from tisslm.checkpoint.run_directory import RunDirectory
from tisslm.contracts import RunInfo
from tisslm.errors import ConfigError, DataError, RunDirectoryError, SinkError
from tisslm.system.time_limits import time_limits
from tisslm.tracking.profiling import TRACE, Profiler
from tisslm.tracking.profiling.records import Span
from tisslm.tracking.sink_group import is_logged
from tisslm.training.batches import Prefetch
from tisslm.training.early_stopping import TRAIN_LOSS, recent_loss
from tisslm.training.evaluation import evaluate_now
from tisslm.training.interruption import Leave
from tisslm.training.loop.saves import Saves
from tisslm.training.ranks.agreement import check_weights, first_says
from tisslm.training.session import Session
from tisslm.training.step import StepResult
from tisslm.training.step_metrics import StepMetrics

__all__ = ["Loop"]


class Loop:
    """Drive a session to the end of its run.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.metrics = StepMetrics(
            session.parts,
            precision=session.passes.precision,
            max_grad_norm=session.config.max_grad_norm,
            steps_per_epoch=session.steps_per_epoch,
            planned=session.planned,
            imports=session.imports,
        )
        self.saves = Saves(session)

    def run(self) -> None:
        """Make every step that is left, or those before the run is asked to end."""
        session = self.session
        ops.refuse_fork("trainer.train")
        session.stopped = session.stopping.ended = ""
        session.run.make()
        with ExitStack() as stack:
            stack.enter_context(session.leaving.armed(time_limits(session.config.max_time)))
            stack.enter_context(self.saves.owned())
            self.saves.claim()
            self._run()
            session.parts.show(average=True)
            session.stopping.ended = session.stopping.reason
            if session.config.restore_best and not session.stopped:
                self._restore_best()

    def _run(self) -> None:
        session = self.session
        start, status = time.perf_counter(), "failed"
        try:
            session.parts.sinks.open(self._run_info())
            self.metrics.begin()
            self._train()
            status = "stopped" if session.stopped else "completed"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except BaseException:
            with suppress(RunDirectoryError):
                self.saves.finish()
            raise
        finally:
            session.parts.sinks.close()
            self._summarize(status, time.perf_counter() - start)

    def _train(self) -> None:
        """Train; a run directory that has gone meanwhile ends it, after a save where it is now."""
        try:
            self._train_here()
        except RunDirectoryError as error:
            if self._is_alone:  # the others are within a step, and cannot give what they have
                self.saves.elsewhere(error)
            raise

    @property
    def _is_alone(self) -> bool:
        return self.session.parts.communicator.size == 1

    def _train_here(self) -> None:
        """Make the steps, and save the state of the last update, whatever ended them."""
        session = self.session
        try:
            self._steps()
            self._evaluate()
        except Leave as leave:
            session.stopped = leave.reason
            session.parts.optimizer.zero_grad()  # those of a window that is dropped
            session.leaving.announce(f"{leave.reason}: saving at step {session.state.step}")
        except (SinkError, DataError, ConfigError, OSError) as error:  # the last update is whole
            if self._is_alone and not isinstance(error, RunDirectoryError):
                self.saves.before_error()
            raise
        self.saves.last()

    def _run_info(self) -> RunInfo:
        session = self.session
        return RunInfo(
            directory=session.run.path,
            name=session.config.name,
            config=session.settings,
            rank=session.parts.communicator.rank,
            resumed_step=session.state.step,
            max_steps=session.max_steps,
            parameters=session.parts.model.parameters.count,
            begun=self.saves.begun,
            declared=session.parts.own.declared,
        )

    # ------------------------------------------------------------------ steps

    def _steps(self) -> None:
        session = self.session
        stream = session.batches("trainer.train")  # first: what preferences are compared with
        self._catch_up()
        overlapped = session.parts.reduction.overlapped()
        with (
            Prefetch(stream, session.leaving.check) as batches,
            self._profiled() as profiler,
            overlapped,
        ):
            while session.state.step < session.max_steps and not session.stopping.due:
                session.leaving.check_together(self.metrics.rate.longest)
                session.run.confirm()
                with profiler.step(session.state.step + 1):
                    made = self._step(batches, profiler)
                if made:
                    session.leaving.progressed = True
                    self._after_step(batches)

    @contextmanager
    def _profiled(self) -> Iterator[Profiler]:
        """Make the recorder of some steps; the session gets what it has recorded."""
        session = self.session
        wanted = session.config.profile_steps if session.parts.communicator.rank == 0 else 0
        left = session.max_steps - session.state.step
        profiler = Profiler(wanted, left, session.run.path / TRACE, session.parts.model)
        try:
            yield profiler
        finally:
            profiler.close()
            session.profile = profiler.profile

    def _step(self, batches: Prefetch, profiler: Profiler) -> bool:
        """Take a batch and make an update of it; tell whether there was one."""
        session, start = self.session, time.perf_counter()
        with profiler.span("batch"):
            rows = next(batches)
        waited = time.perf_counter() - start
        result = session.train_step(rows)
        exchanged = session.parts.reduction.take_exchanged()
        profiler.note_exchanges([Span(e.what, "", e.start, e.end) for e in exchanged])
        self.metrics.add(result.rows, result.tokens, waited, time.perf_counter() - start)
        metrics = self._line(result) if result.applied else {}
        if metrics:
            with profiler.span("report"):
                session.parts.sinks.write(session.state.step, metrics)
        return result.applied

    def _line(self, result: StepResult) -> dict[str, Any]:
        """Return what the sinks are told of an update, nothing if it is not their turn."""
        session, state, metrics = self.session, self.session.state, dict(result.observed)
        if is_logged(state.step, session.config, session.max_steps):
            metrics = {**self.metrics.line(result, state), **session.parts.own.ask(), **metrics}
            if session.config.max_grad_norm > 0.0:
                state.count_report()
        return metrics

    def _after_step(self, batches: Prefetch) -> None:
        """Sample, evaluate and save when it is their turn, while nothing else reads the dataset."""
        self._compare_ranks()
        self._sample()
        self._look_at_training()
        if self._evaluates():
            batches.settle()
            self._evaluate()
        if self._saves() or self._keeps():
            batches.settle()
            self.saves.on_the_way()

    def _compare_ranks(self) -> None:
        """Make sure now and then that all ranks have the same parameters."""
        session, every = self.session, self.session.config.rank_check_steps
        if not self._is_alone and every and session.state.step % every == 0:
            parts = session.parts
            check_weights(parts.communicator, parts.model.parameters.data, session.state.step)

    def _catch_up(self) -> None:
        """Make samples and evaluation of the last step, which the run left out when it left."""
        state = self.session.state
        self._sample()
        self._look_at_training()
        if state.step and self._evaluates() and state.evaluation.get("step") != state.step:
            self._evaluate()
            if self._saves() or self._keeps():
                self.saves.on_the_way()

    def _evaluate(self) -> None:
        session = self.session
        check = session.leaving.check
        evaluate_now(session.parts, session.config, session.state, session.stopping, check)

    def _look_at_training(self) -> None:
        """Where the run goes by its losses or by a part's metric, look when it would evaluate."""
        session, every = self.session, self.session.config.validation_frequency
        step, stopping = session.state.step, session.stopping
        if stopping.standing.metric.startswith("eval/") or not every or not step or step % every:
            return
        if stopping.standing.metric == TRAIN_LOSS:
            loss = recent_loss(session.state.loss_history, session.config)
            stopping.observe(step, {TRAIN_LOSS: loss})
        else:
            stopping.observe(step, session.parts.own.ask())

    def _evaluates(self) -> bool:
        """Tell whether it is time to evaluate: by the steps, or because the best are kept."""
        session = self.session
        if session.parts.val_dataset is None:
            return False
        frequency = session.config.validation_frequency
        is_time = frequency > 0 and session.state.step % frequency == 0
        return is_time or (self._saves() and session.retention.best > 0)

    def _saves(self) -> bool:
        session, every = self.session, self.session.config.save_every
        step = session.state.step
        return every > 0 and step % every == 0 and step < session.max_steps

    def _keeps(self) -> bool:
        """Tell whether this is the best so far, and to be gone back to."""
        session, step = self.session, self.session.state.step
        wanted = session.config.restore_best and session.stopping.is_best(step)
        return wanted and step < session.max_steps

    # ------------------------------------------------------------------ the end

    def _restore_best(self) -> None:
        """Go back to the best checkpoint, unless that is where the run is."""
        session = self.session
        standing = session.stopping.standing
        if standing.metric != TRAIN_LOSS and standing.best is None:
            warnings.warn(
                f"training.restore_best: no value of {standing.metric} was finite; the parameters "
                "stay those of the last step",
                RuntimeWarning,
                stacklevel=3,
            )
            return
        best = session.run.path / "best"
        leads = isinstance(session.run, RunDirectory)
        step = checkpoint.find(best).manifest.step if leads else 0
        if first_says(session.parts.communicator, step) != session.state.step:
            session.restore(best)

    def _sample(self) -> None:
        """Write text after the prompts when it is due, once per step."""
        session, state = self.session, self.session.state
        sampler, step = session.sampler, state.step
        if sampler is None or state.sampled_step == step:
            return
        if sampler.is_due(step, session.max_steps):
            session.parts.show(average=True)
            session.parts.sinks.write(step, sampler.texts(step, session.leaving.check))
            state.sampled_step = step

    def _averaged_loss(self) -> dict[str, Any]:
        """Return what the summary of a run that averages its weights has more."""
        session = self.session
        if session.parts.average is None:
            return {}
        return {"eval_ema_loss": session.state.evaluation.get("eval/ema_loss")}

    def _summarize(self, status: str, seconds: float) -> None:
        session, state = self.session, self.session.state
        with suppress(ConfigError):  # a directory that was taken over is left as it is
            self.saves.confirm()
            session.run.write_summary(
                {
                    "status": status,
                    "stopped_by": session.stopped or session.stopping.reason or None,
                    "steps": state.step,
                    "train_loss": state.loss_history[-1] if state.loss_history else None,
                    "eval_loss": state.evaluation.get("eval/loss"),
                    **self._averaged_loss(),
                    **self.metrics.summary(seconds, state.tokens_seen),
                    "seconds": seconds,
                    "parameters": session.parts.model.parameters.count,
                    "failed_saves": session.saver.failures,
                    "best": session.stopping.summary(),
                }
            )
