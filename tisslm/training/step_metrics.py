"""The metrics of a training step, by the names that sinks get, and what a run sums up at its end.

The metrics of evaluations are in ``evaluation``, those of monitors in ``tracking.monitoring``.
"""

from __future__ import annotations

import math
from typing import Any

from tisslm import ops
from tisslm.contracts import Loss
from tisslm.tracking.processor import ProcessorUse
from tisslm.tracking.sink_group import GIB, Rate, memory_metrics
from tisslm.training.components import Components
from tisslm.training.state import TrainerState
from tisslm.training.step import StepResult

__all__ = ["StepMetrics"]


class StepMetrics:
    """Gather what is known of each step, and tell it when a line is due.

    Parameters
    ----------
    parts : Components
    precision : {"fp32", "bf16", "fp16"}
        The precision of the passes.
    max_grad_norm : float
        The norm to which gradients are clipped; 0 if they are not.
    steps_per_epoch : int
    planned : int
        Bytes that the run is planned to take.
    imports : int
        Bytes that the interpreter and its libraries held when it was planned.

    Attributes
    ----------
    rate : Rate
        Tokens per second.
    """

    def __init__(
        self,
        parts: Components,
        *,
        precision: str,
        max_grad_norm: float,
        steps_per_epoch: int,
        planned: int,
        imports: int,
    ) -> None:
        self._parts = parts
        self._precision = precision
        self._clips = max_grad_norm > 0.0
        self._steps_per_epoch = max(1, steps_per_epoch)
        self._planned = planned
        self._imports = imports
        self.rate = Rate()
        self.steps = self.samples = 0
        self._use = ProcessorUse()
        self._peak: float | None = None
        self._time = 0
        self._waited = self._took = 0.0

    def begin(self) -> None:
        """Measure what later figures are compared with; takes a tenth of a second."""
        if self._parts.model.dtype == "float32":
            peak = ops.peak_gflops(self._precision)
            self._peak = None if peak is None else self._parts.communicator.size * peak
        self._use.begin()

    def add(self, rows: int, tokens: int, waited: float, took: float) -> None:
        """Count a step, whether or not it was applied.

        Parameters
        ----------
        rows, tokens : int
            Of its batch.
        waited : float
            Seconds until the batch was there.
        took : float
            Seconds of the whole step.
        """
        self.rate.add(tokens, took)
        self.samples += rows
        self.steps += 1
        self._time = tokens // max(1, rows)
        self._waited, self._took = waited, took

    def line(self, result: StepResult, state: TrainerState) -> dict[str, Any]:
        """Return the metrics of the step that was added last, which made an update.

        Parameters
        ----------
        result : StepResult
        state : TrainerState
            The position after the step.
        """
        return {
            "train/loss": result.loss,
            **self._perplexity(result.loss),
            "train/learning_rate": result.learning_rate,
            "train/grad_norm": result.grad_norm,
            **self._clipping(state),
            **_movement(result),
            "train/epoch": state.position / self._steps_per_epoch,
            "train/num_input_tokens_seen": state.tokens_seen,
            "train/skipped_steps": state.skipped,
            **self._loss_scale(),
            **self._speed(),
            **memory_metrics(),
            "memory/planned_gib": self._planned / GIB,
            "memory/imports_gib": self._imports / GIB,
            **self._use.metrics(),
        }

    def _perplexity(self, loss: float) -> dict[str, float]:
        """Return the loss as a perplexity, which one of vectors, pairs or a teacher has not."""
        if not isinstance(self._parts.loss, Loss) or not self._parts.loss.has_perplexity:
            return {}
        return {"train/perplexity": math.exp(min(loss, 700.0))}

    def _clipping(self, state: TrainerState) -> dict[str, float]:
        """Return the share of the updates since the last line whose gradients were clipped."""
        if not self._clips:
            return {}
        share = state.clipped / max(1, state.step - state.reported_step)
        return {"train/grad_norm_clipped_fraction": share}

    def _loss_scale(self) -> dict[str, float]:
        half = self._precision == "fp16"
        return {"train/loss_scale": self._parts.scaler.scale} if half else {}

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
        return self._parts.model.flops_per_token(self._time) or 0

    def summary(self, seconds: float, tokens_seen: int) -> dict[str, float | None]:
        """Return the figures of the whole run under the names of Hugging Face's Trainer.

        Parameters
        ----------
        seconds : float
            Duration of this process's part of the run; rates are over all of it.
        tokens_seen : int
            Tokens of the whole run.
        """
        return {
            "tokens_per_second": self.rate.overall,
            "train_runtime": seconds,
            "train_samples_per_second": self.samples / seconds,
            "train_steps_per_second": self.steps / seconds,
            "train_tokens_per_second": self.rate.tokens / seconds,
            "total_flos": self._flops_per_token() * tokens_seen if self._time else None,
        }


def _movement(result: StepResult) -> dict[str, float]:
    """Return how far the update has moved the parameters, if the optimizer tells."""
    if result.parameter_norm is None or result.update_ratio is None:
        return {}
    return {"train/param_norm": result.parameter_norm, "train/update_ratio": result.update_ratio}
