"""Whole training steps per second, ours and PyTorch's, side by side: ``train_step.py --help``.

What does not live here: the measurement (``turns``), the sides (``sides/``).
"""

from __future__ import annotations

import json
import os
import platform
import signal
import statistics
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import psutil
import typer
from protocol import SideFailedError
from sizes import parse_size
from turns import OURS, PEERS, Job, LossMismatchError, Measured, measure, say

BUSY = 0.25  # load per thread, before the start, from which on the user is warned


class Precision(StrEnum):
    """Element types that a step can be run in."""

    fp32 = "fp32"


def parse_peers(text: str) -> tuple[str, ...]:
    """Turn ``torch,torch-compile`` into names; an empty text means no peer."""
    peers = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [peer for peer in peers if peer not in PEERS]
    if unknown or len(set(peers)) < len(peers):
        raise ValueError(
            f"--peers: expected different names of {', '.join(PEERS)}, comma-separated, "
            f"got {text!r}"
        )
    return peers


def run(
    size: Annotated[
        str, typer.Option(help="char-tiny, char, gpt2-4x64, gpt2-4x256, or L,H,C,V,B,T.")
    ] = "char-tiny",
    precision: Annotated[Precision, typer.Option(help="Element type.")] = Precision.fp32,
    peers: Annotated[
        str, typer.Option(help="Of torch,torch-compile; '' for none.")
    ] = "torch,torch-compile",
    steps: Annotated[
        int, typer.Option(min=0, help="Updates in a round; 0: as many as fill about 3 seconds.")
    ] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Timed turns of each side.")] = 5,
    threads: Annotated[
        int, typer.Option(min=0, help="For every side; 0: one for each physical core.")
    ] = 0,
    bias: Annotated[bool, typer.Option(help="Biases in linear layers and norms.")] = True,
    peer_python: Annotated[
        str, typer.Option(help="Interpreter that has torch and NumPy.")
    ] = sys.executable,
    require_peers: Annotated[
        bool, typer.Option("--require-peers", help="Fail if a peer cannot run.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the results to this file.")
    ] = None,
) -> None:
    """Time forward + backward + clip + AdamW against PyTorch, after comparing the losses."""
    try:
        job = Job(
            size=parse_size(size),
            bias=bias,
            threads=threads or usable_cores(),
            peers=parse_peers(peers),
            peer_python=peer_python,
            steps=steps,
            rounds=rounds,
        )
    except ValueError as error:
        stop(str(error), 2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the sides are ended, too
    load = os.getloadavg()[0]
    if load > BUSY * job.threads:
        say(f"the machine is busy (load {load:.1f}): the figures of this run mean little")
    try:
        measured = measure(job)
    except (LossMismatchError, SideFailedError) as error:
        stop(str(error), 1)
    print(table(size, measured))
    if json_file is not None:
        document = {"size": size, "precision": precision.value, "load_before": load}
        json_file.write_text(json.dumps(document | as_json(measured), indent=2) + "\n")
    if require_peers and measured.left_out:
        stop(f"peers left out: {', '.join(measured.left_out)}", 1)


def stop(sentence: str, code: int) -> NoReturn:
    """End with one sentence on standard error."""
    print(f"train_step: {sentence}", file=sys.stderr)
    raise SystemExit(code)


def as_json(measured: Measured) -> dict[str, Any]:
    """Return the document of ``--json``, but for what the command line knows."""
    job = measured.job
    return {
        "shape": str(job.size),
        "bias": job.bias,
        "threads": job.threads,
        "parameters": job.size.parameters(job.bias),
        "flops_per_token": job.size.flops_per_token(job.bias),
        "steps": measured.steps,
        "rounds": job.rounds,
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.platform()},
        "peak_gflops": max(measured.peak_gflops),
        "peak_gflops_rounds": measured.peak_gflops,
        "results": [
            {
                "who": who,
                "tokens_per_s": statistics.median(measured.tokens_per_s(who)),
                "gflops": measured.gflops(who),
                "peak_rss_bytes": measured.peak_rss_bytes[who],
                "loss": measured.losses[who][0],
                "losses": measured.losses[who],
                "tokens_per_s_rounds": measured.tokens_per_s(who),
                "about": measured.about[who],
            }
            for who in measured.seconds
        ],
        "left_out": measured.left_out,
    }


def usable_cores() -> int:
    """Count the physical cores that this process may run on."""
    usable = len(os.sched_getaffinity(0))
    return min(usable, psutil.cpu_count(logical=False) or usable)


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def table(name: str, measured: Measured) -> str:
    """Lay the results out for reading."""
    job, peak = measured.job, max(measured.peak_gflops)
    columns = ("tokens/s", "slowest", "fastest", "GFLOP/s", "of peak", "peak MiB", "first loss")
    lines = [
        f"{name}: {job.size}, {job.size.parameters(job.bias):,} parameters, fp32",
        f"{job.threads} threads, {job.rounds} rounds of {measured.steps} updates",
        f"peak of this machine in this run: {peak:.1f} GFLOP/s",
        "",
        f"{'side':14}" + "".join(f"{column:>12}" for column in columns),
    ]
    for who in measured.seconds:
        rates = measured.tokens_per_s(who)
        lines.append(
            f"{who:14}{statistics.median(rates):12.1f}{min(rates):12.1f}{max(rates):12.1f}"
            f"{measured.gflops(who):12.1f}{measured.gflops(who) / peak:12.1%}"
            f"{measured.peak_rss_bytes[who] / 2**20:12.0f}{measured.losses[who][0]:12.6f}"
        )
    others = [who for who in measured.seconds if who != OURS]
    if others:
        best = max(others, key=measured.gflops)
        ratio = measured.gflops(OURS) / measured.gflops(best)
        lines += ["", f"{OURS} is {ratio:.2f} times as fast as the faster peer, {best}"]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(run)
