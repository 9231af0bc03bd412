"""Whole training steps per second, ours and PyTorch's, side by side: ``train_step.py --help``.

What does not live here: the measurement (``turns``), the sides (``sides/``).
"""

from __future__ import annotations

import statistics
import sys
from typing import Annotated, Any

import typer
from command import (
    Bias,
    Checkpointing,
    ElementType,
    JsonFile,
    PeerPython,
    Peers,
    Plain,
    Rounds,
    SizeName,
    Steps,
    Threads,
    attempt,
    contestants,
)
from job import OURS, PLAIN, Contestant, Job, Precision
from machine import describe, stop, usable_cores, warn_if_busy, write_json
from protocol import above_parameters
from sizes import parse_size
from turns import Measured, measure


def run(
    size: SizeName = "char-tiny",
    precision: ElementType = Precision.fp32,
    activation_checkpointing: Checkpointing = "none",
    plain: Plain = False,
    peers: Peers = None,
    choose_peer: Annotated[
        bool, typer.Option("--choose-peer", help="Time only the peer that a warm-up finds faster.")
    ] = False,
    steps: Steps = 0,
    rounds: Rounds = 5,
    threads: Threads = 0,
    bias: Bias = True,
    peer_python: PeerPython = sys.executable,
    require_peers: Annotated[
        bool, typer.Option("--require-peers", help="Fail if a peer cannot run.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Time forward + backward + clip + AdamW against PyTorch, after comparing the losses."""
    threads = threads or usable_cores()
    try:
        shape = parse_size(size)
        sides = contestants(shape, threads, precision, activation_checkpointing, plain, peers)
        job = Job(shape, bias, sides, peer_python, steps, rounds)
    except ValueError as error:
        stop(str(error), 2)
    load = warn_if_busy(threads)
    measured = attempt(lambda: measure(job, choose_peer=choose_peer))
    print(table(size, measured))
    document = {"size": size, "precision": precision.value, "load_before": load}
    write_json(json_file, document | as_json(measured))
    if require_peers and measured.left_out:
        stop(f"peers left out: {', '.join(measured.left_out)}", 1)


def as_json(measured: Measured) -> dict[str, Any]:
    """Return the document of ``--json``, but for what the command line knows."""
    job = measured.job
    return {
        "shape": str(job.size),
        "bias": job.bias,
        "threads": job.contestants[0].threads,
        "activation_checkpointing": job.contestants[0].activation_checkpointing,
        "parameters": job.size.parameters(job.bias),
        "flops_per_token": job.size.flops_per_token(job.bias),
        "steps": measured.steps,
        "rounds": job.rounds,
        "machine": describe(),
        "peak_gflops": measured.peak("fp32"),
        "peak_gflops_rounds": measured.peaks["fp32"],
        "peak_bf16_gflops": max(measured.peaks["bf16"]) if "bf16" in measured.peaks else None,
        "results": [result(measured, one) for one in measured.timed],
        "left_out": measured.left_out,
        "not_chosen_tokens_per_s": measured.not_chosen,
    }


def result(measured: Measured, one: Contestant) -> dict[str, Any]:
    """Return one side's figures."""
    who, memory = one.who, measured.memory[one.who]
    parameters = measured.job.size.parameters(measured.job.bias)
    return {
        "who": who,
        "precision": one.precision,
        "tokens_per_s": statistics.median(measured.tokens_per_s(who)),
        "gflops": measured.gflops(who),
        "of_peak": measured.of_peak(one),
        **memory,
        "peak_less_import_bytes": memory["peak_rss_bytes"] - memory["import_rss_bytes"],
        "peak_above_parameters_bytes": above_parameters(memory, parameters),
        "loss": measured.losses[who][0],
        "losses": measured.losses[who],
        "tokens_per_s_rounds": measured.tokens_per_s(who),
        "about": measured.about[who],
    }


COLUMNS = (
    "tokens/s",
    "slowest",
    "fastest",
    "GFLOP/s",
    "of peak",
    "peak MiB",
    "import MiB",
    "rest MiB",
    "first loss",
)


def heading(name: str, measured: Measured) -> list[str]:
    """Say what was run, and what the machine can do."""
    job, ours = measured.job, measured.job.contestants[0]
    checkpointing = ours.activation_checkpointing
    kind = ours.precision + ("" if checkpointing == "none" else f", checkpointing {checkpointing}")
    peaks = ", ".join(f"{name} {max(rates):.1f}" for name, rates in measured.peaks.items())
    return [
        f"{name}: {job.size}, {job.size.parameters(job.bias):,} parameters, {kind}",
        f"{ours.threads} threads, {job.rounds} rounds of {measured.steps} updates",
        f"peak of this machine in this run, GFLOP/s: {peaks}",
        *(
            f"{who} was the slower peer before the run ({rate:.1f} tokens/s)"
            for who, rate in measured.not_chosen.items()
        ),
        "",
    ]


def table(name: str, measured: Measured) -> str:
    """Lay the results out for reading."""
    lines = heading(name, measured)
    lines.append(f"{'side':21}" + "".join(f"{column:>12}" for column in COLUMNS))
    for one in measured.timed:
        figures = result(measured, one)
        rates = figures["tokens_per_s_rounds"]
        lines.append(
            f"{one.who:21}{figures['tokens_per_s']:12.1f}{min(rates):12.1f}{max(rates):12.1f}"
            f"{figures['gflops']:12.1f}{figures['of_peak']:12.1%}"
            f"{figures['peak_rss_bytes'] / 2**20:12.0f}{figures['import_rss_bytes'] / 2**20:12.0f}"
            f"{figures['peak_above_parameters_bytes'] / 2**20:12.0f}{figures['loss']:12.6f}"
        )
    lines += ["", "rest: peak less import less 16 bytes for each parameter"]
    others = [one.who for one in measured.timed if one.kind != OURS]
    if PLAIN in measured.seconds:
        ratio = measured.gflops(OURS) / measured.gflops(PLAIN)
        lines.append(f"{OURS} is {ratio:.2f} times as fast as in fp32 without checkpointing")
    if others:
        best = max(others, key=measured.gflops)
        ratio = measured.gflops(OURS) / measured.gflops(best)
        which = "faster peer" if len(others) > 1 or measured.not_chosen else "peer"
        lines.append(f"{OURS} is {ratio:.2f} times as fast as the {which}, {best}")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(run)
