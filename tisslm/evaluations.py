"""Evaluations of a run: made once per step, and told to the schedule, the sinks and ``stopping``.

What does not live here: the passes (``evaluate``), and when it is time for one (``loop``).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

from tisslm.components import Components
from tisslm.config import TrainingConfig
from tisslm.evaluate import evaluate
from tisslm.stopping import Stopping
from tisslm.trainer_state import TrainerState

__all__ = ["evaluate_now"]

#: Metrics of an evaluation that no decision may hang on.
OF_THE_MACHINE = ("eval/runtime", "eval/samples_per_second")


def evaluate_now(
    parts: Components,
    config: TrainingConfig,
    state: TrainerState,
    stopping: Stopping,
    check: Callable[[], None],
) -> None:
    """Evaluate on the validation data and report it, unless this step was evaluated or has none.

    Parameters
    ----------
    parts : Components
        The schedule is not told a loss that is not finite.
    config : TrainingConfig
    state : TrainerState
        Which keeps what was found.
    stopping : Stopping
    check : callable
        Called before each batch; what it raises ends the evaluation.
    """
    step = state.step
    if parts.val_dataset is None or state.evaluation.get("step") == step:
        return
    found = evaluate(
        parts.model,
        parts.val_dataset,
        parts.validation_loss,
        batch_size=config.batch_size,
        max_batches=config.eval_batches,
        tokenizer=parts.tokenizer,
        check=check,
    )
    metrics = found.metrics()
    told = {name: metrics[name] for name in metrics if name not in OF_THE_MACHINE}
    finite = {name: value for name, value in told.items() if math.isfinite(value)}
    state.evaluation = {"step": step, **finite}
    if math.isfinite(found.loss):
        parts.scheduler.observe(told)
        parts.scheduler.step(step)  # what it has learned holds from the next update on
    else:
        warnings.warn(
            f"step {step}: the validation loss is {found.loss}; it is reported as it is, and "
            "the schedule is not told",
            RuntimeWarning,
            stacklevel=2,
        )
    stopping.observe(step, told)  # first: a sink may end the run, which is saved as it is
    parts.sinks.write(step, metrics)
