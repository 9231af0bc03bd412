"""A run with every sink and every monitor beside one with none: ``monitors.py --help``.

What does not live here: what monitors measure, and the single operations of a step.
"""

from __future__ import annotations

import io
import json
import statistics
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
import typer
from command import Bias, ElementType, JsonFile, Rounds, SizeName, Threads
from job import Precision
from machine import describe, say, stop, usable_cores, warn_if_busy, write_json
from sizes import Size, parse_size

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig, ops
from tisslm.registry import Registry, load_registry

WITH, WITHOUT = "all", "none"


class BitsDifferError(ArithmeticError):
    """A run that was looked at has other parameters than one that was not."""


@dataclass(frozen=True)
class Plan:
    """What every run of the benchmark is."""

    size: Size
    precision: str
    bias: bool
    steps: int
    logging_steps: int
    monitor_steps: int


@dataclass
class Times:
    """Seconds of whole runs, and milliseconds of each look of the monitors."""

    runs: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)


def make_trainer(plan: Plan, folder: Path, registry: Registry, which: str) -> Trainer:
    """Make a run on random tokens: with all installed sinks and monitors, or with none."""
    size = plan.size
    model = Transformer(TransformerConfig(**size.model(plan.bias)), seed=1)
    tokens = np.random.default_rng(0).integers(0, size.vocab_size, 8 * size.tokens + 1)
    config = TrainingConfig(
        batch_size=size.batch,
        max_steps=plan.steps,
        precision=plan.precision,
        logging_steps=plan.logging_steps,
        monitor_steps=plan.monitor_steps,
        validation_frequency=0,
        save_every=0,
        output_dir=str(folder),
    )
    parts = {
        kind: [part.entry.name for part in registry.entries(kind)] if which == WITH else []
        for kind in ("sink", "monitor")
    }
    data = TokenDataset(tokens.astype(np.uint16), size.time, vocab_size=size.vocab_size)
    return Trainer(
        model,
        dataset=data,
        config=config,
        sinks=parts["sink"],
        monitors=parts["monitor"],
        registry=registry,
    )


def run_once(plan: Plan, registry: Registry, which: str, times: Times) -> bytes:
    """Train, add what it took, and return the bits of the parameters."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run")
        trainer = make_trainer(plan, path, registry, which)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            start = perf_counter()
            trainer.train()
            times.runs.append(perf_counter() - start)
        rows = path / "metrics.jsonl"
        for line in rows.read_text().splitlines() if rows.exists() else ():
            row = json.loads(line)
            if "monitor/total_ms" in row:
                times.looks.append(row["monitor/total_ms"])
        return bytes(trainer.model.parameters.data.tobytes())


def measure(plan: Plan, registry: Registry, rounds: int) -> dict[str, Times]:
    """Run in turns, none, all, none, all; each must end with the same parameters.

    Raises
    ------
    BitsDifferError
        If a run does not.
    """
    found, bits = {WITHOUT: Times(), WITH: Times()}, set()
    short = Plan(plan.size, plan.precision, plan.bias, 1, 1, 1)
    for which in found:  # imports, and pages that are touched first
        run_once(short, registry, which, Times())
    for number in range(rounds):
        for which, times in found.items():
            bits.add(run_once(plan, registry, which, times))
            if len(bits) > 1:
                raise BitsDifferError(f"round {number + 1}: {which} has other parameters")
            say(f"round {number + 1}: {which} took {times.runs[-1]:.2f} s")
    return found


def cost(found: dict[str, Times]) -> float:
    """Return the median over the rounds of what sinks and monitors add, as a share."""
    pairs = zip(found[WITH].runs, found[WITHOUT].runs, strict=True)
    return statistics.median(seen / plain for seen, plain in pairs) - 1.0


def report(plan: Plan, found: dict[str, Times]) -> dict[str, Any]:
    """Return the figures of a benchmark, times in seconds."""
    step = statistics.median(found[WITHOUT].runs) / plan.steps
    look = statistics.median(found[WITH].looks) / 1e3
    return {
        "runs_s": {name: times.runs for name, times in found.items()},
        "cost": cost(found),
        "step_s": step,
        "look_s": look,
        "look_in_steps": look / step,
        "looks_cost": look / step / plan.monitor_steps,
    }


def run(
    size: SizeName = "char-tiny",
    steps: Annotated[int, typer.Option(min=1, help="Updates of each run.")] = 100,
    logging_steps: Annotated[int, typer.Option(min=1)] = 10,
    monitor_steps: Annotated[int, typer.Option(min=1)] = 100,
    precision: ElementType = Precision.fp32,
    rounds: Rounds = 2,
    threads: Threads = 0,
    bias: Bias = True,
    json_file: JsonFile = None,
) -> None:
    """Time whole runs in turns: no sinks and monitors, then all that are installed."""
    try:
        shape = parse_size(size)
    except ValueError as error:
        stop(str(error), 2)
    threads = threads or usable_cores()
    load = warn_if_busy(threads)
    ops.set_threads(threads)
    registry = load_registry()
    plan = Plan(shape, precision.value, bias, steps, logging_steps, monitor_steps)
    try:
        found = measure(plan, registry, rounds)
    except BitsDifferError as error:
        stop(str(error), 1)
    figures = report(plan, found)
    names = [part.entry.name for kind in ("sink", "monitor") for part in registry.entries(kind)]
    print(f"{size}: {shape}, {precision.value}, {threads} threads, {steps} steps, {rounds} rounds")
    print(f"with {', '.join(names)}\n")
    print("the same parameters, bit for bit")
    print(f"all of them cost {figures['cost']:.2%} of the time")
    print(
        f"one look of the monitors takes {figures['look_s'] * 1e3:.1f} ms, as long as "
        f"{figures['look_in_steps']:.2f} steps: {figures['looks_cost']:.2%} at every "
        f"{monitor_steps} steps"
    )
    document = {"size": size, "shape": str(shape), "precision": precision.value, "steps": steps}
    document |= {"machine": describe(), "threads": threads, "load_before": load, "parts": names}
    write_json(json_file, document | figures)


if __name__ == "__main__":
    typer.run(run)
