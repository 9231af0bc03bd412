"""One process of all threads beside ranks that share them: ``python ranks.py --help``.

The ranks of one machine have no network between them, so what is lost is the cost of the exchange:
copies, additions on one core, and waiting for the slower one.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from command import JsonFile, Rounds
from machine import describe, stop, usable_cores, warn_if_busy, write_json

#: Steps before those that are timed: they take memory.
WARM_UP = 3


def tokens_per_second(command: list[str], settings: list[str], steps: int) -> float:
    """Train, and return the median speed of the steps after the first ones."""
    with tempfile.TemporaryDirectory() as folder:
        places = [f"training.output_dir={folder}/run", f"training.max_steps={steps + WARM_UP}"]
        options = [text for value in (*settings, *places) for text in ("--set", value)]
        line = [*command, sys.executable, "-m", "tisslm", "train", *options]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            stop(f"{' '.join(line[:4])} ... ended with {done.returncode}: {done.stderr[-400:]}", 1)
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(text) for text in lines]
    times = [line["train/step_time_ms"] for line in found if "train/step_time_ms" in line]
    seen = [line["train/num_input_tokens_seen"] for line in found if "train/loss" in line]
    per_step = (seen[-1] - seen[0]) / (len(seen) - 1)
    return per_step / statistics.median(times[WARM_UP:]) * 1e3


def run(
    preset: Annotated[str, typer.Option("--preset", help="Of the model.")] = "char",
    rows: Annotated[int, typer.Option("--rows", help="Of an update, of all ranks.")] = 16,
    ranks: Annotated[int, typer.Option("--ranks", help="With one thread each at two cores.")] = 2,
    precision: Annotated[str, typer.Option("--precision")] = "fp32",
    steps: Annotated[int, typer.Option("--steps", help="In a turn.")] = 6,
    rounds: Rounds = 5,
    launcher: Annotated[
        str, typer.Option("--launcher", help="What starts the ranks, without their number.")
    ] = "mpiexec",
    json_file: JsonFile = None,
) -> None:
    """Time runs of one process and of several ranks, in turns, with as many threads in all."""
    cores = usable_cores()
    if cores % ranks or rows % ranks:
        stop(f"--ranks: expected a divisor of {cores} cores and {rows} rows, got {ranks}", 2)
    if shutil.which(launcher.split()[0]) is None:
        stop(f"--launcher: expected a command, got {launcher!r}; install an MPI", 2)
    load = warn_if_busy(cores)
    common = [
        f"model.preset={preset}",
        f"training.precision={precision}",
        f"training.global_batch_size={rows}",
        f"training.batch_size={rows // ranks}",
        "training.validation_frequency=0",
        "training.save_every=0",
        "log.sinks=['jsonl']",
    ]
    several = [*launcher.split(), "-n", str(ranks)]
    sides = {
        "one process": ([], [*common, f"training.threads={cores}"]),
        f"{ranks} ranks": (several, [*common, f"training.threads={cores // ranks}"]),
    }
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (command, settings) in sides.items():
            found[name].append(tokens_per_second(command, settings, steps))
    one, shared = (statistics.median(speeds) for speeds in found.values())
    print(describe())
    for name, speeds in found.items():
        middle, low, high = statistics.median(speeds), min(speeds), max(speeds)
        print(f"{name}: {middle:,.0f} tokens/s ({low:,.0f} to {high:,.0f})")
    print(f"ratio {shared / one:.3f}, {preset}, {precision}, {rows} rows, {cores} threads in all")
    write_json(json_file, {"load_before": load, "tokens_per_second": found, "ratio": shared / one})


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    typer.run(run)
