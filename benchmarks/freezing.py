"""Whole updates of a model of which parts are frozen, beside one that trains all: ``--help``.

The models are alike, and take turns in one process. Each is held against what it saves by the count
of operations: what is frozen has no gradient of its own, a third of its products; what lies below
all that is trained has no backward at all, two thirds.

What does not live here: the count (``Model.flops_per_token``), adapters (``lora.py``).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
import typer
from command import Bias, ElementType, JsonFile, Rounds, SizeName, Steps, Threads
from job import Precision
from machine import describe, say, stop, usable_cores, warn_if_busy, write_json
from sides.ours import SEED, OneBatch
from sizes import Size, parse_size

from tisslm import Trainer, TrainingConfig, Transformer, TransformerConfig, Tuning

MIB = 2**20
NOTHING = "nothing"


@dataclass
class Case:
    """A model of which some is frozen.

    Attributes
    ----------
    trainer : Trainer
    batch : OneBatch
    flops_per_token, nbytes : int
        Counted operations of an update, and the bytes of parameters, gradients and AdamW's state.
    seconds : list of float
        Of an update, one figure for each round.
    """

    trainer: Trainer
    batch: OneBatch
    flops_per_token: int
    nbytes: int
    seconds: list[float] = field(default_factory=list)


def patterns(n_layer: int) -> dict[str, tuple[str, ...]]:
    """Return what is frozen in each case, by what is said of it."""
    lower, upper = range(n_layer // 2), range(n_layer // 2, n_layer)
    return {
        NOTHING: (),
        "upper half of the blocks": tuple(f"blocks.{i}.*" for i in upper),
        "lower half of the blocks": tuple(f"blocks.{i}.*" for i in lower),
        "embedding and lower half": ("embedding.*", *(f"blocks.{i}.*" for i in lower)),
        "all but the head": ("embedding.*", "blocks.*", "final_norm.*"),
    }


def make(size: Size, freeze: tuple[str, ...], precision: str, threads: int, bias: bool) -> Case:
    """Build a model whose output matrix is its own, and its Trainer."""
    shape = {**size.model(bias), "tie_embeddings": False}
    model = Transformer(TransformerConfig(**shape), seed=SEED, tuning=Tuning(freeze=freeze))
    rng = np.random.default_rng(SEED)
    x, y = rng.integers(0, size.vocab_size, (2, size.batch, size.time), np.int32)
    settings = TrainingConfig(
        batch_size=size.batch,
        learning_rate=1e-4,
        max_steps=10**9,
        threads=threads,
        precision=precision,
        validation_frequency=0,
    )
    batch = OneBatch(x, y, size.vocab_size)
    trainer = Trainer(model, scheduler="constant", dataset=batch, config=settings, sinks=())
    parameters, trained = model.parameters, model.parameters.count
    nbytes = sum(p.data.nbytes for p in parameters) + 12 * trained
    return Case(trainer, batch, model.flops_per_token(size.time), nbytes)


def updates(case: Case, steps: int) -> list[float]:
    """Make some updates, note the seconds of one of them, and return their losses."""
    x, y = case.batch.x_BT, case.batch.y_BT
    start = perf_counter()
    losses = [float(case.trainer.train_step(x, y)) for _ in range(steps)]
    case.seconds.append((perf_counter() - start) / steps)
    return losses


def verify(cases: dict[str, Case]) -> None:
    """Check that the first update is of the same loss, and that each has learned afterwards.

    Raises
    ------
    ArithmeticError
        If one differs.
    """
    expected = 0.0
    for name, case in cases.items():
        first, second = updates(case, 2)
        case.seconds.clear()
        expected = expected or first
        if first != expected:
            raise ArithmeticError(f"{name}: the first loss is {first}, with all trained {expected}")
        if not second < first:
            raise ArithmeticError(f"{name}: the loss rises from {first} to {second}")


def rows(cases: dict[str, Case]) -> list[dict[str, Any]]:
    """Return each case's figures; shares are of the one that trains all."""
    whole, found = cases[NOTHING], []
    for name, case in cases.items():
        pairs = zip(case.seconds, whole.seconds, strict=True)
        found.append(
            {
                "frozen": name,
                "seconds": statistics.median(case.seconds),
                "share": statistics.median(a / b for a, b in pairs),
                "counted": case.flops_per_token / whole.flops_per_token,
                "bytes": case.nbytes,
            }
        )
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Lay the results out for reading."""
    lines = [f"{'frozen':28}{'update, ms':>12}{'share':>8}{'counted':>9}{'MiB':>10}"]
    for row in found:
        lines.append(
            f"{row['frozen']:28}{row['seconds'] * 1e3:12.1f}{row['share']:8.2f}"
            f"{row['counted']:9.2f}{row['bytes'] / MIB:10.1f}"
        )
    return "\n".join(lines)


def run(
    size: SizeName = "char-tiny",
    precision: ElementType = Precision.fp32,
    steps: Steps = 1,
    rounds: Rounds = 5,
    threads: Threads = 0,
    bias: Bias = True,
    json_file: JsonFile = None,
) -> None:
    """Time updates with parts of the model frozen."""
    threads = threads or usable_cores()
    try:
        shape = parse_size(size)
    except ValueError as error:
        stop(str(error), 2)
    load = warn_if_busy(threads)
    cases = {
        name: make(shape, freeze, precision.value, threads, bias)
        for name, freeze in patterns(shape.n_layer).items()
    }
    try:
        verify(cases)
    except ArithmeticError as error:
        stop(str(error), 1)
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}, {steps} updates of each")
        for case in list(cases.values())[:: 1 if number % 2 == 0 else -1]:
            updates(case, max(1, steps))
    found = rows(cases)
    print(f"{size}: {shape}, an output matrix of its own, {precision.value}, {threads} threads")
    print(table(found))
    document = {"size": size, "precision": precision.value, "threads": threads}
    document |= {"load_before": load, "machine": describe(), "results": found}
    write_json(json_file, document)


if __name__ == "__main__":
    typer.run(run)
