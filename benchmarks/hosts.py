"""A run over a slow network beside its projection, on hosts of one machine: ``hosts.py --help``.

A host is a network namespace with one link of a given speed to a common switch. Linux, root,
iproute2 and MPICH's wheel are needed. Processors are shared by all hosts: times of a node are taken
on all of them at once.

What does not live here: the hosts (``namespaces``), the model (``tisslm project``), times of calls
(``network``).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from command import JsonFile
from machine import describe, stop, write_json
from namespaces import hosts, lacking, write_agent

from tisslm.training.ranks.layout import BUCKET_BYTES

HERE = Path(__file__).parent
PREFIX = Path(sys.prefix) / "bin"

#: A model of four buckets, whose exchange takes longer than its passes.
RUN = {
    "model.n_layer": 6,
    "model.n_head": 8,
    "model.n_embd": 512,
    "model.seq_len": 64,
    "training.batch_size": 1,
    "training.threads": 1,
    "training.validation_frequency": 0,
    "training.logging_steps": 1,
    "training.rank_check_steps": 0,
}

#: Steps of a run that are not counted.
WARM = 2


def environment() -> dict[str, str]:
    """Return variables of ranks: one thread each, and this checkout's plugin."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def launch(names: Sequence[str], folder: Path, *line: str) -> None:
    """Run a command with a rank on each host."""
    agent = write_agent(folder)
    launcher = [PREFIX / "mpiexec.hydra", "-launcher", "ssh", "-launcher-exec", agent]
    launcher += ["-iface", "eth0", "-hosts", ",".join(names), "-n", len(names), "-ppn", 1]
    words = ["ip", "netns", "exec", names[0], *launcher, *line]
    done = subprocess.run(
        [str(word) for word in words],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    if done.returncode:
        stop(f"{' '.join(line[:3])} ended with {done.returncode}: {done.stderr[-500:]}", 1)


def settings(folder: Path, **changed: object) -> list[str]:
    """Return the run's settings as options of a command."""
    text = folder / "text.txt"
    text.write_text("".join(f"{n} green bottles hang on the wall\n" for n in range(3000)))
    values = {**RUN, "data.path": text, **{f"training.{k}": v for k, v in changed.items()}}
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def node_times(names: Sequence[str], folder: Path) -> Path:
    """Measure a node's times on all hosts at once, and write the means."""
    line = [PREFIX / "tisslm", "project", *settings(folder, max_steps=1), "--json", "--nodes", "2"]
    started = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, *map(str, line)],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        for name in names
    ]
    found = [json.loads(process.communicate()[0])["rates"] for process in started]
    numbers = [key for key, value in found[0].items() if not isinstance(value, str)]
    file = folder / f"node-{len(names)}.json"
    means = {key: statistics.mean(rates[key] for rates in found) for key in numbers}
    file.write_text(json.dumps({"rates": means}))
    return file


def step_seconds(names: Sequence[str], folder: Path, steps: int) -> list[float]:
    """Train on the hosts; return the seconds of each step behind the warm ones."""
    run = folder / f"run-{len(names)}"
    options = settings(folder, max_steps=steps + WARM, output_dir=run)
    launch(names, folder, str(PREFIX / "tisslm"), "train", *options)
    lines = [json.loads(line) for line in next(run.rglob("metrics.jsonl")).read_text().splitlines()]
    times = [line["train/step_time_ms"] / 1e3 for line in lines if "train/step_time_ms" in line]
    return times[WARM:]


def compare(names: Sequence[str], folder: Path, steps: int) -> dict[str, Any]:
    """Return what a step takes on some hosts, and what it was projected to take."""
    network = folder / f"network-{len(names)}.json"
    sizes = f"8,{BUCKET_BYTES // len(names)}"  # what a rank sends another of a bucket
    program = [sys.executable, str(HERE / "network.py"), "--bytes", sizes, "--rounds", "5"]
    launch(names, folder, *program, "--json", str(network))
    before = node_times(names, folder)
    took = step_seconds(names, folder, steps)
    line = [PREFIX / "tisslm", "project", *settings(folder, max_steps=1), "--net", network]
    line += ["--rates", before, "--jitter", "0", "--nodes", max(2, len(names)), "--json"]
    done = subprocess.run([*map(str, line)], capture_output=True, text=True, check=True, cwd=folder)
    document = json.loads(done.stdout)
    projected = next(iter(document["projected"].values()))[-1]
    return {
        "hosts": len(names),
        "measured_seconds": statistics.median(took),
        "all_seconds": took,
        "projected": projected,
        "network": document["networks"][0],
        "rates": document["rates"],
    }


def line_of(row: dict[str, Any]) -> str:
    """Lay out a row for reading."""
    measured, projected = row["measured_seconds"], row["projected"]
    network = row["network"]
    return (
        f"{row['hosts']:5}{network['bandwidth'] * 8e-6:12.0f}{network['latency'] * 1e6:12.0f}"
        f"{projected['compute']:10.2f}{projected['exchange']:10.2f}{projected['weights']:10.2f}"
        f"{projected['seconds']:12.2f}{measured:11.2f}{projected['seconds'] / measured - 1:9.0%}"
    )


def run(
    most: Annotated[int, typer.Option("--hosts", min=2, max=8, help="2 up to so many.")] = 3,
    mbit: Annotated[float, typer.Option(min=1.0, help="Of each host's link, each way.")] = 200.0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of a run that are counted.")] = 5,
    json_file: JsonFile = None,
) -> None:
    """Train on hosts that are network namespaces, and compare a step with its projection."""
    if why := lacking():
        stop(f"hosts: {why}", 2)
    if not (PREFIX / "mpiexec.hydra").exists():
        stop(f"hosts: {PREFIX / 'mpiexec.hydra'} is not installed", 2)
    rows = []
    print(f"links of {mbit:g} Mbit/s; the projection has no jitter; seconds of a step")
    print(
        f"{'hosts':>5}{'Mbit/s':>12}{'us/message':>12}{'passes':>10}{'exchange':>10}{'weights':>10}"
        f"{'projected':>12}{'measured':>11}{'off':>9}"
    )
    for count in range(2, most + 1):
        with tempfile.TemporaryDirectory() as made, hosts(count, mbit) as names:
            rows.append(compare(names, Path(made), steps))
        print(line_of(rows[-1]), flush=True)
    write_json(json_file, {"mbit": mbit, "machine": describe(), "results": rows})


if __name__ == "__main__":
    typer.run(run)
