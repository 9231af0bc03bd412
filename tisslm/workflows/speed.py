"""Predicting how fast a run will be, from about two seconds of training steps of its shape.

Passes of models with one and with two blocks, of the run's width, length and vocabulary, are timed;
the difference is the time of a block. Where the run's rows would take too long, fewer rows are
timed, and one row alone, and the line through both is extrapolated. The update is timed separately,
because its time depends on the parameters and not on the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tisslm.config import TrainingConfig
from tisslm.contracts import (
    Batch,
    Loss,
    Model,
    ModelConfig,
    ModelFamily,
    Optimizer,
    target_weights,
)
from tisslm.contracts.model import predicting_model
from tisslm.registry import Registry
from tisslm.system.memory_limit import MemoryLimit
from tisslm.training.memory_plan.planner import Planner

__all__ = ["Speed", "measure"]

SECONDS = 2.0  # of the whole measurement, as far as one pass allows
REPEATS = 2  # calls that are timed; the fastest counts


@dataclass(frozen=True)
class Speed:
    """The measured speed of a run.

    Attributes
    ----------
    tokens_per_second : float
        Tokens per second in whole updates.
    step_seconds : float
        Duration of an update.
    measured_rows : int
        Rows in each pass that was timed.
    pass_seconds : float
        Duration of a micro-batch, forward and backward.
    block_seconds : float
        Duration of one block in it.
    update_seconds : float
        Duration of an update of all parameters, with the norm before it.
    """

    tokens_per_second: float
    step_seconds: float
    measured_rows: int
    pass_seconds: float
    block_seconds: float
    update_seconds: float


def measure(
    family: ModelFamily,
    shape: ModelConfig,
    config: TrainingConfig,
    parts: tuple[object, Any],
    registry: Registry,
    limit: MemoryLimit,
    *,
    precision: str = "fp32",
    checkpointing: str = "none",
) -> Speed | None:
    """Time passes and updates of small models, and compute the time of an update of the run.

    Parameters
    ----------
    family : ModelFamily
    shape : ModelConfig
    config : TrainingConfig
    parts : (optimizer, loss)
        A name, or a pair of name and options, for each.
    registry : Registry
    limit : MemoryLimit
        The memory that may be used; a measurement that does not fit is not made.
    precision, checkpointing : str
        Precision and activation checkpointing of the passes.

    Returns
    -------
    Speed or None
        None if two layers do not fit, the family cannot change their number, or the loss needs
        more than a pass over rows of tokens.
    """
    optimizer, loss = parts
    shapes = {n: family.with_layers(shape, n) for n in (2, 1)}
    if None in shapes.values():
        return None
    small = family.of_shapes(shapes[2])
    if not isinstance(small, Model):  # what an encoder's step takes follows from its texts
        return None
    kind = registry.get("loss", loss if isinstance(loss, str) else loss[0])
    if not issubclass(kind, Loss) or kind.begin is not Loss.begin:
        return None  # nor is a step of pairs, or one with a teacher, a pass over so many rows
    plan = Planner(small, config, optimizer, registry, precision=precision)
    if plan.plan(checkpointing, 1).total > limit.nbytes:
        return None
    loss_fn: Loss = registry.build("loss", loss)
    rows, passes, growth, per_parameter = 0, [], 1.0, 0.0
    for n_layer in (2, 1):
        model = predicting_model(family.build(shapes[n_layer], seed=config.seed), "model")
        model.prepare(precision=precision, activation_checkpointing=checkpointing)
        if n_layer == 2:
            alone = _fastest(_pass(model, loss_fn, 1))
            rows = min(config.batch_size, max(2, int(SECONDS / 4 / alone)))
            while rows > 1 and plan.plan(checkpointing, rows).total > limit.nbytes:
                rows //= 2
        passes.append(_fastest(_pass(model, loss_fn, rows)))
        if n_layer == 2:
            growth = _growth(alone, passes[0], rows, config.batch_size)
            made: Optimizer = registry.build("optimizer", optimizer, model.parameters, 1e-4)
            per_parameter = _fastest(_update(made)) / model.parameters.count
            del made
        del model
    block = max(passes[0] - passes[1], 0.0)
    pass_seconds = growth * (passes[1] + (shape.values()["n_layer"] - 1) * block)
    update = per_parameter * family.of_shapes(shape).parameters.count
    seconds = config.micro_batches_per_update * pass_seconds + update
    tokens = config.rows_per_update * shape.seq_len
    return Speed(tokens / seconds, seconds, rows, pass_seconds, growth * block, update)


def _growth(alone: float, together: float, rows: int, wanted: int) -> float:
    """Return the factor from the time of ``rows`` rows to that of ``wanted``, by a line.

    The line goes through the times of one row and of ``rows`` rows: a pass has a part that does not
    grow with the rows, such as the packing of weights.
    """
    if rows == 1 or rows == wanted:
        return wanted / rows
    slope = max(0.0, (together - alone) / (rows - 1))
    return 1.0 + (wanted - rows) * slope / together


def _pass(model: Model, loss: Loss, rows: int) -> Callable[[], object]:
    ids = np.random.default_rng(0).integers(0, model.vocab_size, (2, rows, model.seq_len))
    x_BT, y_BT = ids.astype(np.int32)
    batch = Batch(x_BT, y_BT, target_weights(y_BT, np.float64))

    def run() -> None:
        model.parameters.zero_grad()
        model.step_loss(batch, loss)

    return run


def _update(optimizer: Optimizer) -> Callable[[], object]:
    """Return a function that makes one update, with the check before it, on the last gradients."""

    def run() -> None:
        optimizer.parameters.grad_norm()
        optimizer.scale_next_step(0.5)
        optimizer.step()

    return run


def _fastest(run: Callable[[], object]) -> float:
    """Return the shortest time of a few calls; the first call counts only if it is long."""
    best = np.inf
    for repeat in range(1 + REPEATS):
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        if repeat or seconds > SECONDS:
            best = min(best, seconds)
        if seconds > SECONDS:
            break
    return float(best)
