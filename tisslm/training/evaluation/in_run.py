"""Evaluations of a run: of what its model is, and who is told of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from tisslm.config import TrainingConfig
from tisslm.config.metrics import METRICS
from tisslm.contracts import Dataset, EmbeddingLoss, Encoder, PreferenceLoss
from tisslm.contracts.model import predicting_model
from tisslm.training.components import Components
from tisslm.training.early_stopping import Stopping
from tisslm.training.evaluation.pairs import PairEvaluation, evaluate_pairs
from tisslm.training.evaluation.texts import TextEvaluation, evaluate_texts
from tisslm.training.evaluation.tokens import Evaluation, evaluate
from tisslm.training.state import TrainerState

__all__ = ["evaluate_model", "evaluate_now"]

#: What each kind of evaluation finds.
Found = Evaluation | TextEvaluation | PairEvaluation


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
        The schedule among them is not told a loss that is not finite.
    config : TrainingConfig
    state : TrainerState
        It keeps what was found.
    stopping : Stopping
    check : callable
        Called before each batch; what it raises ends the evaluation.
    """
    step = state.step
    if parts.val_dataset is None or state.evaluation.get("step") == step:
        return
    evaluated = partial(
        evaluate_model,
        parts,
        parts.val_dataset,
        config,
        max_batches=config.eval_batches,
        check=check,
        communicator=parts.communicator,
    )
    found = evaluated()
    metrics = found.metrics() | _of_average(parts, found, evaluated)
    told = {name: metrics[name] for name in metrics if not METRICS[name].of_machine}
    finite = {name: value for name, value in told.items() if math.isfinite(value)}
    state.evaluation = {"step": step, **finite}
    if found.loss is None or math.isfinite(found.loss):
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


def _of_average(
    parts: Components, found: Found, evaluated: Callable[[], Found]
) -> dict[str, float]:
    """Return what is reported of the average of the weights, which they are before it begins."""
    if parts.average is None:
        return {}
    if parts.average.count:
        with parts.averaged():
            found = evaluated()
    named = ((f"eval/ema_{n.removeprefix('eval/')}", v) for n, v in found.metrics().items())
    return {name: value for name, value in named if name in METRICS}


def evaluate_model(
    parts: Components, dataset: Dataset, config: TrainingConfig, **how: Any
) -> Found:
    """Evaluate what a run makes: an encoder by vectors, a language model by targets or by pairs.

    Parameters
    ----------
    parts : Components
    dataset : Dataset
    config : TrainingConfig
    **how
        ``max_batches``, ``check`` and ``communicator``, which all kinds of evaluation take.
    """
    parts.show(average=True)
    how["batch_size"] = config.batch_size
    if isinstance(parts.model, Encoder):
        loss = parts.loss if isinstance(parts.loss, EmbeddingLoss) else None
        whole = config.rows_per_update
        return evaluate_texts(parts.model, dataset, loss, loss_batch=whole, **how)
    model = predicting_model(parts.model, "evaluation")
    if isinstance(parts.loss, PreferenceLoss):
        return evaluate_pairs(model, dataset, parts.loss, parts.validation_loss, **how)
    return evaluate(model, dataset, parts.validation_loss, tokenizer=parts.tokenizer, **how)
