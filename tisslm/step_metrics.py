"""The metrics of a training step, by the names that sinks get, and what a run sums up at its end.

What does not live here: when a line is due (``loop``), the metrics of evaluations (``evaluate``)
and of monitors (``reporting``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tisslm import ops
from tisslm.processor_use import ProcessorUse
from tisslm.reporting import GIB, Rate, memory_metrics

if TYPE_CHECKING:
    from tisslm.trainer import Trainer

__all__ = ["StepMetrics"]


class StepMetrics:
    """Gather what is known of each step, and tell it when a line is due.

    Parameters
    ----------
    trainer : Trainer

    Attributes
    ----------
    rate : Rate
        Tokens per second.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.rate = Rate()
        self.steps = self.samples = 0
        self._use = ProcessorUse()
        self._peak: float | None = None
        self._time = 0
        self._waited = self._took = 0.0

    def begin(self) -> None:
        """Measure what later figures are compared with; takes a tenth of a second."""
        trainer = self.trainer
        if getattr(trainer.model, "dtype", "float32") == "float32":
            self._peak = ops.peak_gflops(trainer.passes.precision)
        self._use.begin()

    def add(self, shape: tuple[int, ...], waited: float, took: float) -> None:
        """Count a step, whether or not it was applied.

        Parameters
        ----------
        shape : (int, int)
            Rows and time of its batch.
        waited : float
            Seconds until the batch was there.
        took : float
            Seconds of all of it.
        """
        self.rate.add(math.prod(shape), took)
        self.samples += shape[0]
        self.steps += 1
        self._time = shape[1]
        self._waited, self._took = waited, took

    def line(self, loss: float, lr: float) -> dict[str, Any]:
        """Return the metrics of the step that was added last, an update.

        Parameters
        ----------
        loss : float
            In nats.
        lr : float
            What it was made with.
        """
        trainer = self.trainer
        return {
            "train/loss": loss,
            "train/perplexity": math.exp(min(loss, 700.0)),
            "train/learning_rate": lr,
            "train/grad_norm": trainer.grad_norm,
            **self._clipping(),
            **self._movement(),
            "train/epoch": trainer.state.position / max(1, trainer.steps_per_epoch),
            "train/num_input_tokens_seen": trainer.state.tokens_seen,
            "train/skipped_steps": trainer.skipped_steps,
            **self._loss_scale(),
            **self._speed(),
            **memory_metrics(),
            "memory/planned_gib": trainer.planned / GIB,
            "memory/imports_gib": trainer.imports / GIB,
            **self._use.metrics(),
        }

    def _clipping(self) -> dict[str, float]:
        """Return the share of the updates since the last line whose gradients were clipped."""
        state = self.trainer.state
        if self.trainer.config.max_grad_norm == 0.0:
            return {}
        share = state.clipped / max(1, state.step - state.reported_step)
        state.clipped, state.reported_step = 0, state.step
        return {"train/grad_norm_clipped_fraction": share}

    def _movement(self) -> dict[str, float]:
        """Return how far the update has moved the parameters, if the optimizer tells."""
        movement = self.trainer.optimizer.movement
        if movement is None:
            return {}
        return {
            "train/param_norm": movement.parameter_norm,
            "train/update_ratio": movement.ratio,
        }

    def _loss_scale(self) -> dict[str, float]:
        half = self.trainer.passes.precision == "fp16"
        return {"train/loss_scale": self.trainer.loss_scale} if half else {}

    def _speed(self) -> dict[str, float]:
        tokens = self.rate.recent
        found = {
            "train/tokens_per_second": tokens,
            "train/step_time_ms": self._took * 1e3,
            "train/data_time_ms": self._waited * 1e3,
        }
        flops = self._flops_per_token()
        if flops:
            found["train/tflops"] = flops * tokens / 1e12
            if self._peak:
                found["train/mfu"] = flops * tokens / (self._peak * 1e9)
        return found

    def _flops_per_token(self) -> int:
        """Count a training step's operations per token; 0 for a model that does not say."""
        count = getattr(self.trainer.model, "flops_per_token", None)
        return 0 if count is None else int(count(self._time))

    def summary(self, seconds: float) -> dict[str, float | None]:
        """Return the figures of the whole run under the names of Hugging Face's Trainer.

        Parameters
        ----------
        seconds : float
            Duration of this process's part of the run; rates are over all of it.
        """
        seen = self.trainer.state.tokens_seen
        return {
            "tokens_per_second": self.rate.overall,
            "train_runtime": seconds,
            "train_samples_per_second": self.samples / seconds,
            "train_steps_per_second": self.steps / seconds,
            "train_tokens_per_second": self.rate.tokens / seconds,
            "total_flos": self._flops_per_token() * seen if self._time else None,
        }
