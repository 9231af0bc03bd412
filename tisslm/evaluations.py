"""Evaluations of a run: made once per step, and told to the schedule, the sinks and ``stopping``.

What does not live here: the passes (``evaluate``), and when it is time for one (``loop``).
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

from tisslm.evaluate import evaluate

if TYPE_CHECKING:
    from tisslm.trainer import Trainer

__all__ = ["evaluate_now"]

#: Metrics of an evaluation that no decision may hang on.
OF_THE_MACHINE = ("eval/runtime", "eval/samples_per_second")


def evaluate_now(trainer: Trainer) -> None:
    """Evaluate on the validation data and report it, unless this step was evaluated or has none.

    Parameters
    ----------
    trainer : Trainer
        Its state keeps what was found. The schedule is not told a loss that is not finite.
    """
    step = trainer.current_step
    if trainer.val_dataset is None or trainer.state.evaluation.get("step") == step:
        return
    found = evaluate(
        trainer.model,
        trainer.val_dataset,
        trainer.validation_loss,
        batch_size=trainer.config.batch_size,
        max_batches=trainer.config.eval_batches,
        tokenizer=trainer.tokenizer,
        check=trainer.leaving.check,
    )
    metrics = found.metrics()
    told = {name: metrics[name] for name in metrics if name not in OF_THE_MACHINE}
    finite = {name: value for name, value in told.items() if math.isfinite(value)}
    trainer.state.evaluation = {"step": step, **finite}
    if math.isfinite(found.loss):
        trainer.scheduler.observe(told)
        trainer.scheduler.step(step)  # what it has learned holds from the next update on
    else:
        warnings.warn(
            f"step {step}: the validation loss is {found.loss}; it is reported as it is, and "
            "the schedule is not told",
            RuntimeWarning,
            stacklevel=2,
        )
    trainer.stopping.observe(step, told)  # first: a sink may end the run, which is saved as it is
    trainer.sinks.write(step, metrics)
