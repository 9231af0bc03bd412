"""One step: the gradients of its micro-batches; then check, show, clip, update, and go on.

A step returns what it did, and leaves nothing behind but the parameters, the optimizer's state and
the position.

Whether a step may be applied is decided in ``guard``, and what follows if it may not is in
``incidents``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tisslm.config import TrainingConfig
from tisslm.contracts import AnyLoss, Rows, UpdateMeter
from tisslm.contracts.rows import check_rows
from tisslm.optim.update_norm import Movement
from tisslm.tracking.monitoring import Monitoring
from tisslm.tracking.sink_group import is_logged, is_monitored
from tisslm.training.components import Components
from tisslm.training.gradients.gradients import Passed
from tisslm.training.gradients.matching import make_gradients
from tisslm.training.nonfinite import Finding, investigate
from tisslm.training.refusals.guard import Verdict, judge
from tisslm.training.state import TrainerState

__all__ = ["Step", "StepResult"]

#: Added to the norm before it divides, as in PyTorch's clip_grad_norm_.
CLIP_EPS = 1e-6


@dataclass(frozen=True)
class StepResult:
    """What a step did.

    Attributes
    ----------
    loss : float
        The mean over the real targets of all processes, in nats, without the loss scale.
    grad_norm : float
        The norm of the gradients, without the loss scale and before clipping.
    learning_rate : float
        The rate that the update was made with, or would have been made with.
    applied : bool
        Whether an update was made.
    clipped : bool
        Whether its gradients were clipped.
    observed : mapping
        The metrics of the monitors, if they looked.
    parameter_norm, update_ratio : float or None
        The norm of the parameters before the update, and the norm of the update divided by it;
        None unless the step is logged and the optimizer measures them.
    refused : Verdict or None
        Why no update was made, where the guard refused it; an overflow under the loss scale is no
        refusal.
    rows, tokens : int
        Of all processes.
    """

    loss: float
    grad_norm: float
    learning_rate: float
    applied: bool = False
    clipped: bool = False
    observed: Mapping[str, Any] = field(default_factory=dict)
    parameter_norm: float | None = None
    update_ratio: float | None = None
    refused: Verdict | None = None
    rows: int = 0
    tokens: int = 0


class Step:
    """Makes the steps of a run, whoever asks for them.

    Parameters
    ----------
    parts : Components
    config : TrainingConfig
    precision : {"fp32", "bf16", "fp16"}
        The precision of the passes.
    monitoring : Monitoring
    check : callable
        Called before each micro-batch; what it raises drops the step.
    last : int
        Number of the last update of the run.
    """

    def __init__(
        self,
        parts: Components,
        config: TrainingConfig,
        precision: str,
        monitoring: Monitoring,
        check: Callable[[], None],
        last: int,
    ) -> None:
        self.parts = parts
        self.config = config
        self.precision = precision
        self._monitoring = monitoring
        self._gradients = make_gradients(parts, config, monitoring, check)
        self._last = last
        self._shows = bool(parts.monitors)  # also once one has failed, here and not elsewhere
        gather = parts.communicator.all_gather if parts.communicator.size > 1 else None
        measures = parts.optimizer.measures_movement
        self._movement = Movement(parts.reduction.updated, gather) if measures else None

    def make(self, rows: Rows, state: TrainerState) -> StepResult:
        """Make one update, or none if it must not be made.

        Parameters
        ----------
        rows : Rows
            Those of the whole update that are this rank's, with arrays of shape (B, T); they are
            cut into micro-batches.
        state : TrainerState
            The position, which an update moves on. A refused step is not counted yet.

        Raises
        ------
        ShapeError, DataError
            Where ``gradients`` raises them.
        NonFiniteError
            If gradients overflow, and no smaller loss scale is left.
        """
        looks = is_monitored(state.step + 1, self.config, self._last)
        self._monitoring.begin(looks)
        return self.apply(self.gradients(rows), state)

    def gradients(self, rows: Rows, loss: AnyLoss | None = None) -> Passed:
        """Leave the gradients of the mean loss of all ranks' rows, times the loss scale.

        Parameters
        ----------
        rows : Rows
            The rows of the whole update, with arrays of shape (B, T).
        loss : AnyLoss, optional
            The loss that is differentiated; by default, the run's.

        Returns
        -------
        Passed

        Raises
        ------
        ShapeError
            If the shapes differ, or there are rows beyond those of this rank.
        DataError
            If there is no target, or a dataset gave something else than ``Rows``.
        """
        self.parts.show(average=False)
        return self._gradients.leave(check_rows(rows, "train_step"), loss)

    def apply(self, passed: Passed, state: TrainerState) -> StepResult:
        """Make one update of the gradients that are there, or none if they must not be applied.

        Parameters
        ----------
        passed : Passed
            What the passes that left them came to.
        state : TrainerState
            The position, which an update moves on.
        """
        parts, config = self.parts, self.config
        loss, norm = passed.loss, parts.scaler.norm()
        result = StepResult(
            loss, norm, parts.scheduler.get_lr(), rows=passed.rows, tokens=passed.tokens
        )
        if self.overflowed(loss, norm):
            parts.scaler.shrink()
            state.skipped += 1
            return result
        verdict = judge(loss, norm, state.loss_history, config, state.refused_in_a_row)
        if not verdict.apply:
            return replace(result, refused=verdict)
        if verdict.what:
            _warn(f"step {state.step + 1}: {verdict.what}")
        if self._shows and is_monitored(state.step + 1, config, self._last):
            parts.reduction.publish_gradient()
        self._monitoring.before_update(parts.scaler.current)
        movement = self._movement if is_logged(state.step + 1, config, self._last) else None
        applied, clipped = self.update(norm, movement)
        if not applied:
            state.skipped += 1
            return result
        observed = self._monitoring.after_update()
        state.count_update(loss, clipped)
        parts.scheduler.step(state.step)
        return replace(
            result,
            applied=True,
            clipped=clipped,
            observed=observed,
            parameter_norm=None if movement is None else movement.parameter_norm,
            update_ratio=None if movement is None else movement.ratio,
        )

    def update(self, norm: float, movement: UpdateMeter | None = None) -> tuple[bool, bool]:
        """Clip and apply the gradients that are there, whatever they are.

        Parameters
        ----------
        norm : float
            The norm of the gradients, without the loss scale.
        movement : UpdateMeter, optional
            It measures how far the parameters move.

        Returns
        -------
        (bool, bool)
            Whether an update was made, and whether its gradients were clipped.
        """
        clipped = self.clip(self.config.max_grad_norm, norm)
        applied = self.parts.optimizer.step(movement)
        if applied:
            if self.parts.average is not None:
                self.parts.average.update()
            self.parts.reduction.publish()
        return applied, clipped

    def clip(self, max_norm: float, norm: float) -> bool:
        """Leave a factor with the optimizer: the one that limits the norm, over the loss scale.

        Parameters
        ----------
        max_norm : float
            The largest norm that is let through; 0 limits nothing.
        norm : float
            The norm of the gradients, without the loss scale.

        Returns
        -------
        bool
            Whether the factor makes the gradients smaller.
        """
        factor = max_norm / (norm + CLIP_EPS) if max_norm > 0.0 else 1.0
        factor = factor if factor < 1.0 else 1.0
        scaler = self.parts.scaler
        admits = scaler.admit if self.precision == "fp16" else None
        self.parts.optimizer.scale_next_step(factor / scaler.current, admits)
        return factor < 1.0

    def overflowed(self, loss: float, norm: float) -> bool:
        """Tell whether gradients are not finite, and a smaller loss scale may be all they need."""
        half, stuck = self.precision == "fp16", self.parts.scaler.stuck
        return half and math.isfinite(loss) and not math.isfinite(norm) and not stuck

    def investigate(self, rows: Rows) -> Finding:
        """Run the passes of a failed step again, and find where they fail.

        Nothing of the run changes but the gradients, which are those of the same rows once more.
        """
        parts = self.parts
        self._monitoring.begin(False)  # the search for what failed is no step
        finding = investigate(
            parts.model,
            parts.loss,
            parts.optimizer,
            rerun=lambda watched: self.gradients(rows, watched).loss,
            norm=parts.scaler.norm,
            rows=self.config.batch_size,
            time=rows.x.shape[1],
        )
        fault = finding.fault and self._gradients.located(finding.fault, len(rows.x))
        return replace(finding, fault=fault)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)
