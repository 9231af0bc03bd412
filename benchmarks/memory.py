"""The memory of a training step, ours and PyTorch's, beside the plan: ``memory.py --help``.

What does not live here: starting and verifying the sides (``turns``), the plan (``tisslm plan``).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer
from command import (
    Bias,
    Checkpointing,
    ElementType,
    JsonFile,
    PeerPython,
    Peers,
    Plain,
    SizeName,
    Threads,
    attempt,
    contestants,
)
from job import OURS, Job, Precision
from machine import describe, stop, usable_cores, write_json
from protocol import above_parameters
from sizes import parse_size
from turns import Measured, measure_memory

MIB = 2**20
#: Text of the configuration that is planned: two characters, so that any vocabulary holds them.
LETTERS = "ab"


def plan_config(job: Job, text: Path) -> str:
    """Write our side's run as a configuration file, over a text that is made for it."""
    ours = job.contestants[0]
    training: dict[str, Any] = {"batch_size": job.size.batch, "threads": ours.threads}
    if ours.precision != "fp32":
        training["precision"] = ours.precision
    if ours.activation_checkpointing != "none":
        training["activation_checkpointing"] = ours.activation_checkpointing
    sections: dict[str, dict[str, Any]] = {
        "data": {"path": str(text), "valid_fraction": 0.0},
        "tokenizer": {"name": "char"},
        "model": job.size.model(job.bias),
        "optimizer": {"name": "adamw"},
        "training": training,
    }
    lines = []
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(v)}" for key, v in values.items()), ""]
    return "\n".join(lines)


def planned_bytes(job: Job) -> tuple[int | None, str]:
    """Ask ``tisslm plan`` what our side takes beyond its imports.

    Returns
    -------
    int or None
        None where there is no plan.
    str
        Why there is none.
    """
    with tempfile.TemporaryDirectory(prefix="plan-") as folder:
        text, config = Path(folder) / "text.txt", Path(folder) / "plan.toml"
        text.write_text(LETTERS * (job.size.tokens + 1))
        config.write_text(plan_config(job, text))
        command = [sys.executable, "-m", "tisslm", "plan", str(config), "--json", "--no-measure"]
        clone = str(Path(__file__).resolve().parents[1])
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=clone)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return None, f"tisslm plan does not run here: {last[0].strip(' │')}"
    return int(json.loads(done.stdout)["memory"]["total_bytes"]), ""


def rows(measured: Measured, planned: int | None) -> list[dict[str, Any]]:
    """Return each side's figures, ours first; ratios are ours over the side's."""
    parameters = measured.job.size.parameters(measured.job.bias)
    ours = measured.memory[OURS]
    found = []
    for who, memory in measured.memory.items():
        above = above_parameters(memory, parameters)
        row: dict[str, Any] = {
            "who": who,
            **memory,
            "peak_less_import_bytes": memory["peak_rss_bytes"] - memory["import_rss_bytes"],
            "peak_above_parameters_bytes": above,
            "ratio_of_peaks": ours["peak_rss_bytes"] / memory["peak_rss_bytes"],
            "ratio_above_parameters": above_parameters(ours, parameters) / above if above else None,
        }
        if who == OURS and planned is not None:
            row["planned_bytes"] = planned
            row["planned_over_measured"] = planned / row["peak_less_import_bytes"]
        found.append(row)
    return found


def table(measured: Measured, found: list[dict[str, Any]], no_plan: str) -> str:
    """Lay the results out for reading."""
    columns = ("peak", "import", "difference", "rest", "ours/peak", "ours/rest")
    lines = [f"{'side, MiB':21}" + "".join(f"{column:>12}" for column in columns)]
    for row in found:
        ratio = row["ratio_above_parameters"]
        lines.append(
            f"{row['who']:21}{row['peak_rss_bytes'] / MIB:12.1f}"
            f"{row['import_rss_bytes'] / MIB:12.1f}{row['peak_less_import_bytes'] / MIB:12.1f}"
            f"{row['peak_above_parameters_bytes'] / MIB:12.1f}{row['ratio_of_peaks']:12.2f}"
            + ("" if ratio is None else f"{ratio:12.2f}")
        )
    lines += ["", "rest: the difference less 16 bytes for each parameter"]
    if "planned_bytes" in found[0]:
        share = found[0]["planned_over_measured"]
        planned = found[0]["planned_bytes"] / MIB
        lines.append(f"planned: {planned:.1f} MiB, {share:.3f} of the measured difference")
    else:
        lines.append(f"no plan: {no_plan}")
    lines += [f"left out: {who} ({reason})" for who, reason in measured.left_out.items()]
    return "\n".join(lines)


def run(
    size: SizeName = "char-tiny",
    precision: ElementType = Precision.fp32,
    activation_checkpointing: Checkpointing = "none",
    plain: Plain = False,
    peers: Peers = None,
    threads: Threads = 0,
    bias: Bias = True,
    peer_python: PeerPython = sys.executable,
    json_file: JsonFile = None,
) -> None:
    """Compare the largest resident set of a few updates, after comparing their losses."""
    threads = threads or usable_cores()
    try:
        shape = parse_size(size)
        sides = contestants(shape, threads, precision, activation_checkpointing, plain, peers)
        job = Job(shape, bias, sides, peer_python)
    except ValueError as error:
        stop(str(error), 2)
    measured = attempt(lambda: measure_memory(job))
    planned, no_plan = planned_bytes(job)
    found = rows(measured, planned)
    print(f"{size}: {job.size}, {job.size.parameters(bias):,} parameters, {precision.value}")
    print(table(measured, found, no_plan))
    document = {
        "size": size,
        "shape": str(job.size),
        "precision": precision.value,
        "activation_checkpointing": activation_checkpointing,
        "parameters": job.size.parameters(bias),
        "machine": describe(),
        "results": found,
        "left_out": measured.left_out,
    }
    write_json(json_file, document)


if __name__ == "__main__":
    typer.run(run)
