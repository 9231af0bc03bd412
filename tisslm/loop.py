"""A run from its first step to its last: batches, reports, evaluations, checkpoints, summary.

What does not live here: what a step does (``Trainer.train_step``).
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from tisslm import checkpoint
from tisslm.contracts import Dataset, RunInfo
from tisslm.evaluate import Evaluation, evaluate
from tisslm.prefetch import Prefetch
from tisslm.reporting import Rate, is_logged, memory_metrics

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
        self.rate = Rate()
        self._evaluation: tuple[int, Evaluation] | None = None

    def run(self) -> None:
        """Make every step that is left, with what belongs around them."""
        trainer = self.trainer
        trainer.run.make()
        trainer.run.write_config(trainer.settings)
        checkpoint.clean(trainer.run.checkpoints)
        checkpoint.set_aside(trainer.run.checkpoints, trainer.current_step)
        start, status = time.perf_counter(), "failed"
        try:
            trainer.sinks.open(self._run_info())
            self._steps()
            self._evaluate()
            trainer.save_checkpoint(trainer.current_epoch, trainer.current_step)
            status = "completed"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            trainer.sinks.close()
            self._summarize(status, time.perf_counter() - start)

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
        )

    # ------------------------------------------------------------------ steps

    def _steps(self) -> None:
        trainer = self.trainer
        windows = self.dataset.stream(
            trainer.rows_per_update, trainer.config.seed, start=trainer.state.position
        )
        with Prefetch(windows) as batches:
            while trainer.current_step < trainer.max_steps:
                if self._step(batches):
                    self._after_step(batches)

    def _step(self, batches: Prefetch) -> bool:
        """Take a batch and make an update of it; tell whether there was one."""
        trainer, start = self.trainer, time.perf_counter()
        before, lr = trainer.current_step, trainer.scheduler.get_lr()
        x_BT, y_BT = next(batches)
        loss = trainer.train_step(x_BT, y_BT)
        self.rate.add(x_BT.size, time.perf_counter() - start)
        if trainer.current_step == before:  # skipped: the loss scale was too large
            return False
        if is_logged(trainer.current_step, trainer.config, trainer.max_steps):
            metrics = self._metrics(loss, lr)
            metrics["train/step_time_ms"] = (time.perf_counter() - start) * 1e3
            trainer.sinks.write(trainer.current_step, metrics)
        return True

    def _after_step(self, batches: Prefetch) -> None:
        """Evaluate and save when it is their turn, while nothing else reads the dataset."""
        trainer, config = self.trainer, self.trainer.config
        step = trainer.current_step
        saves = config.save_every and step % config.save_every == 0 and step < trainer.max_steps
        evaluates = config.validation_frequency and step % config.validation_frequency == 0
        if evaluates or (saves and trainer.retention.best):  # the best of those that are saved
            batches.settle()
            self._evaluate()
        if saves:
            batches.settle()
            trainer.save_checkpoint(trainer.current_epoch, step)

    # ------------------------------------------------------------------ reports

    def _metrics(self, loss: float, lr: float) -> dict[str, Any]:
        trainer = self.trainer
        return {
            "train/loss": loss,
            "train/perplexity": math.exp(min(loss, 700.0)),
            "train/learning_rate": lr,
            "train/grad_norm": trainer.grad_norm,
            "train/tokens_per_second": self.rate.recent,
            "train/epoch": trainer.state.position / max(1, trainer.steps_per_epoch),
            "train/num_input_tokens_seen": trainer.state.tokens_seen,
            **self._scaling_metrics(),
            **memory_metrics(),
            **trainer.observed,
        }

    def _scaling_metrics(self) -> dict[str, Any]:
        trainer = self.trainer
        if trainer.passes.precision != "fp16":
            return {}
        return {
            "train/loss_scale": trainer.loss_scale,
            "train/skipped_steps": trainer.skipped_steps,
        }

    def _evaluate(self) -> None:
        """Evaluate on the validation data, once per step, and report it."""
        trainer, step = self.trainer, self.trainer.current_step
        if trainer.val_dataset is None or (self._evaluation and self._evaluation[0] == step):
            return
        found = evaluate(
            trainer.model,
            trainer.val_dataset,
            trainer.validation_loss,
            batch_size=trainer.config.batch_size,
        )
        self._evaluation = (step, found)
        metrics = {"eval/loss": found.loss, "eval/perplexity": found.perplexity}
        trainer.measured = (step, metrics)
        trainer.scheduler.observe(metrics)
        trainer.sinks.write(step, {**metrics, "eval/runtime": found.seconds})

    def _summarize(self, status: str, seconds: float) -> None:
        trainer = self.trainer
        trainer.run.write_summary(
            {
                "status": status,
                "steps": trainer.current_step,
                "train_loss": trainer.loss_history[-1] if trainer.loss_history else None,
                "eval_loss": self._evaluation[1].loss if self._evaluation else None,
                "tokens_per_second": self.rate.overall,
                "seconds": seconds,
                "parameters": trainer.model.parameters.count,
            }
        )
