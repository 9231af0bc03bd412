"""``tisslm project``: how fast many nodes would train a run, by a model of their steps.

The model is in ``tisslm.workflows.projection.step_time``, what it starts from in ``inputs``.
"""

from __future__ import annotations

import json as json_text
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tisslm import ops
from tisslm.cli._options import ConfigFile, Settings
from tisslm.cli._terminal import say
from tisslm.config import RunConfig
from tisslm.contracts import Encoder
from tisslm.errors import ConfigError
from tisslm.registry import Registry, load_registry
from tisslm.system.memory_limit import resolve_limit
from tisslm.training.memory_plan.passes import resolve_precision
from tisslm.workflows.build.trainer import ReadRun, read_run
from tisslm.workflows.projection.inputs import (
    ETHERNET,
    Network,
    NodeTimes,
    measure_adding,
    parse_latency,
    read_network,
    read_times,
)
from tisslm.workflows.projection.step_time import Projected
from tisslm.workflows.projection.step_time import project as project_step
from tisslm.workflows.speed import measure

__all__ = ["project"]

Facts = dict[str, Any]

#: The parts of a step, as they are called in tables.
PARTS = {
    "compute": "passes of the node",
    "jitter": "waiting for the slowest",
    "exchange": "gradients, not hidden",
    "weights": "weights, not hidden",
    "small": "small calls",
    "update": "update",
    "adding": "additions of leaves",
}


def project(
    config: ConfigFile = None,
    settings: Settings = None,
    nodes: Annotated[
        int, typer.Option("--nodes", min=2, help="The most nodes, each of one rank.")
    ] = 256,
    net: Annotated[
        Path | None,
        typer.Option("--net", metavar="FILE", help="What benchmarks/network.py --json measured."),
    ] = None,
    gbit: Annotated[
        float | None,
        typer.Option(metavar="X", help="Gbit/s of an Ethernet. Left out: 1, 10 and 100."),
    ] = None,
    latency: Annotated[
        str, typer.Option(metavar="TIME", help="Of each message on an Ethernet.")
    ] = "25us",
    rates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Times of a node, as --json printed. Left out: measured."
        ),
    ] = None,
    gflops: Annotated[
        float | None,
        typer.Option(metavar="X", help="Scale a node's passes to so many GFLOP/s."),
    ] = None,
    jitter: Annotated[
        float,
        typer.Option(min=0.0, metavar="SHARE", help="Deviation of a node's time: an assumption."),
    ] = 0.02,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Project the time of a step on up to so many nodes, and what part of their speed is left.

    Rows of the configuration are a node's; with training.global_batch_size, all nodes'. The times
    of a node are measured here in a few seconds, like tisslm plan's. Settings as for train.
    """
    networks = _networks(net, gbit, latency)
    registry = load_registry()
    read = read_run(RunConfig.load(config, settings or ()), registry)
    model, training = read.model_of_shapes(), read.config.training
    if isinstance(model, Encoder):
        raise ConfigError(
            "project: expected a language model, whose rows all take as long, got one that makes "
            "vectors of texts, whose steps take as long as the texts of a run are; train it for a "
            "few steps, and read the tokens per second"
        )
    times = _measured(read, registry) if rates is None else read_times(rates)
    flops = training.batch_size * model.seq_len * (model.flops_per_token(model.seq_len) or 0)
    if gflops is not None:
        times = times.at_speed(gflops, flops)
    counts = _counts(nodes)
    alone = project_step(model, training, times, networks[0], 1, jitter=jitter)
    found = {
        network.name: [
            project_step(model, training, times, network, count, jitter=jitter) for count in counts
        ]
        for network in networks
    }
    inputs = {
        "parameters": model.parameters.count,
        "rows_per_node": alone.rows,
        "tokens_per_row": model.seq_len,
        "micro_batch": training.batch_size,
        "gflops": flops / times.pass_seconds / 1e9,
        "jitter": jitter,
    }
    if json:
        say(json_text.dumps(_facts(inputs, times, networks, alone, found), indent=2))
    else:
        say("\n".join(_text(inputs, times, networks, alone, found)))


def _networks(net: Path | None, gbit: float | None, latency: str) -> list[Network]:
    """Return the networks that are asked for, or the usual ones."""
    seconds = parse_latency(latency)
    if gbit is not None and not gbit > 0.0:
        raise ConfigError(f"--gbit: expected a number > 0, got {gbit}")
    if net is not None and gbit is not None:
        raise ConfigError("--gbit and --net: expected one of them; leave one out")
    if gbit is not None:
        return [Network.ethernet(gbit, seconds)]
    measured = [] if net is None else [read_network(net)]
    return measured + [Network.ethernet(speed, seconds) for speed in ETHERNET]


def _counts(nodes: int) -> list[int]:
    """Return powers of two, 3, and the most."""
    powers = {2**n for n in range(1, nodes.bit_length()) if 2**n <= nodes}
    return sorted(powers | {n for n in (3, nodes) if n <= nodes})


def _measured(read: ReadRun, registry: Registry) -> NodeTimes:
    run, limit = read.config, resolve_limit(read.config.training.memory_limit)
    if run.training.threads is not None:
        ops.set_threads(run.training.threads)
    wanted = run.training.activation_checkpointing
    speed = measure(
        read.family,
        read.shape,
        run.training,
        (run.optimizer, run.loss),
        registry,
        limit,
        precision=resolve_precision(run.training.precision),
        checkpointing="none" if wanted == "auto" else wanted,
    )
    if speed is None:
        raise ConfigError(
            "project: two blocks of this width do not fit the memory, the loss needs more than "
            "passes over rows of tokens, or the family cannot change their number, so nothing can "
            "be measured here; give --rates of a machine that can"
        )
    source = f"measured here on {ops.thread_count().count} threads, {speed.measured_rows} rows"
    return NodeTimes(
        speed.pass_seconds, speed.block_seconds, speed.update_seconds, measure_adding(), source
    )


Table = dict[str, list[Projected]]


def _facts(
    inputs: Facts, times: NodeTimes, networks: Sequence[Network], alone: Projected, found: Table
) -> Facts:
    def row(step: Projected) -> Facts:
        return {
            **asdict(step),
            "seconds": step.seconds,
            "efficiency": step.efficiency(alone),
        }

    return {
        "what": "a projection by a model, not a measurement",
        "inputs": inputs,
        "rates": asdict(times),
        "networks": [asdict(network) for network in networks],
        "alone": row(alone),
        "projected": {name: [row(step) for step in steps] for name, steps in found.items()},
    }


def _text(
    inputs: Facts, times: NodeTimes, networks: Sequence[Network], alone: Projected, found: Table
) -> list[str]:
    lines = [
        "projection by a model, not a measurement",
        "",
        "inputs",
        f"  parameters              {inputs['parameters']:,}",
        f"  rows of a node          {inputs['rows_per_node']:,} of {inputs['tokens_per_row']:,} "
        f"tokens, {inputs['micro_batch']:,} at a time",
        f"  a micro-batch           {times.pass_seconds:.4g} s, {inputs['gflops']:,.0f} GFLOP/s; a "
        f"block of it {times.block_seconds:.4g} s",
        f"  an update of all        {times.update_seconds:.4g} s",
        f"  one core adds           {times.added_per_second / 1e9:.3g} GB/s",
        f"  these are               {times.source}",
        f"  jitter (assumed)        {inputs['jitter']:.3g} of a node's time, standard deviation",
    ]
    lines += [
        f"  network                 {network.name}: {network.bandwidth / 1e9:.4g} GB/s each way, "
        f"{network.latency * 1e6:.3g} us a message"
        for network in networks
    ]
    lines += ["", f"one node alone: {alone.seconds:.4g} s a step", ""]
    lines.append("projected efficiency" + "".join(f"{name:>24}" for name in found))
    for steps in zip(*found.values(), strict=True):
        cells = (f"{step.efficiency(alone):.3f} ({step.seconds:.4g} s)" for step in steps)
        lines.append(f"  {steps[0].nodes:>6} nodes      " + "".join(f"{c:>24}" for c in cells))
    last = [steps[-1] for steps in found.values()]
    lines += ["", f"projected seconds of a step on {last[0].nodes} nodes"]
    for part, words in PARTS.items():
        cells = (f"{getattr(step, part):.4g}" for step in last)
        lines.append(f"  {words:<24}" + "".join(f"{c:>18}" for c in cells))
    return lines
