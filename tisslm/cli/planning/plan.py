"""``tisslm plan``: memory, operations and time of a run, before it takes any of them.

The figures come from ``tisslm.training.memory_plan.planner`` and ``tisslm.workflows.speed``.
"""

from __future__ import annotations

import json as json_text
from typing import Annotated, Any

import typer

from tisslm import ops
from tisslm.cli._options import ConfigFile, Settings
from tisslm.cli._terminal import say
from tisslm.config import RunConfig
from tisslm.contracts import Encoder
from tisslm.memory.grouping import summarized
from tisslm.registry import Registry, load_registry
from tisslm.system.memory_limit import MemoryLimit, resolve_limit
from tisslm.system.quantities import duration_text, size_text, step_time_text
from tisslm.training.memory_plan.items import FAMILIES, MemoryPlan
from tisslm.training.memory_plan.passes import resolve_precision
from tisslm.training.memory_plan.planner import Planner
from tisslm.training.memory_plan.ranks import RankPlan
from tisslm.workflows.build.data import RunData
from tisslm.workflows.build.trainer import ReadRun, plan_run, read_run
from tisslm.workflows.speed import measure

__all__ = ["plan"]

Facts = dict[str, Any]


def plan(
    config: ConfigFile = None,
    settings: Settings = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Leave the two seconds of training out.")
    ] = False,
    ranks: Annotated[
        int, typer.Option("--ranks", min=1, help="Plan one of so many ranks of the run.")
    ] = 1,
) -> None:
    """Show the memory, the operations and the time of a run, without making its model.

    The text is read, because vocabulary and length depend on it. Settings as for train.
    """
    run, registry = RunConfig.load(config, settings or ()), load_registry()
    read = read_run(run, registry, ranks)
    run = read.config
    limit = resolve_limit(run.training.memory_limit)
    planner = plan_run(read, registry, ranks)
    found = _facts(planner, run, read.data, limit)
    if not no_measure:
        found["speed"] = _speed(read, registry, limit, found, planner.ranks)
    if json:
        say(json_text.dumps(found, indent=2))
    else:
        say("\n".join(_text(found, isinstance(planner.model, Encoder))))


# --------------------------------------------------------------------------- facts


def _facts(planner: Planner, run: RunConfig, data: RunData, limit: MemoryLimit) -> Facts:
    training, model = run.training, planner.model
    kept = planner.alternatives()
    wanted = training.activation_checkpointing
    if wanted == "auto":
        fits = (name for name, plan in kept.items() if plan.remaining <= limit.nbytes)
        wanted = next(fits, list(kept)[-1])
    chosen = planner.plan(wanted)
    rows = training.rows_per_update
    if planner.ranks is not None:
        rows = planner.ranks.share.rows
    steps = training.max_steps or training.epochs * -(-len(data.train) // rows)
    found: Facts = {
        "parameters": model.parameters.count,
        "flops_per_token": model.flops_per_token(planner.time),
        "tokens_per_step": rows * planner.time,
        "steps": steps,
        "activation_checkpointing": wanted,
        "memory": _memory(chosen, limit),
        "instead": _changes(planner, chosen, wanted, kept),
    }
    if groups := summarized(model.parameters):
        found["groups"] = [
            {"how": how, "parameters": names, "numbers": numbers}
            for how, (names, numbers) in groups.items()
        ]
    return found if planner.ranks is None else {**found, "ranks": _of_ranks(planner.ranks)}


def _of_ranks(ranks: RankPlan) -> Facts:
    """Return what each rank has of an update; every figure is of the rank that has most of it."""
    gradients, weights = ranks.traffic
    return {
        "ranks": ranks.size,
        "rows_per_step": ranks.share.rows,
        "parts": ranks.share.parts,
        "rows_of_rank": ranks.rows,
        "micro_batches_of_rank": ranks.micro_batches,
        "parameters_updated": ranks.shard.data.size,
        "gradient_bytes_sent": gradients.sent,
        "gradient_bytes_received": gradients.received,
        "weight_bytes_sent": weights.sent,
        "weight_bytes_received": weights.received,
    }


def _memory(chosen: MemoryPlan, limit: MemoryLimit) -> Facts:
    return {
        "total_bytes": chosen.total,
        "imports_bytes": chosen.imports,
        "limit_bytes": limit.nbytes,
        "limit": limit.source,
        "fits": chosen.remaining <= limit.nbytes,
        "by_family": chosen.by_family,
        "by_layer": chosen.by_layer,
    }


def _changes(
    planner: Planner, chosen: MemoryPlan, wanted: str, kept: dict[str, MemoryPlan]
) -> dict[str, int]:
    """Return the total bytes of the run under each of a few other settings."""
    batch = planner.config.batch_size
    found = {
        f"training.batch_size={rows}": planner.plan(wanted, rows).total
        for rows in (batch // 2, 2 * batch)
        if rows
    }
    for name, plan in kept.items():
        if name != wanted:
            found[f"training.activation_checkpointing={name}"] = plan.total
    return found


def _speed(
    read: ReadRun,
    registry: Registry,
    limit: MemoryLimit,
    found: Facts,
    ranks: RankPlan | None,
) -> Facts | None:
    run = read.config
    if run.training.threads is not None:
        ops.set_threads(run.training.threads)
    speed = measure(
        read.family,
        read.shape,
        run.training,
        (run.optimizer, run.loss),
        registry,
        limit,
        precision=resolve_precision(run.training.precision),
        checkpointing=found["activation_checkpointing"],
    )
    if speed is None:
        return None
    per_second, seconds = speed.tokens_per_second, speed.step_seconds
    if ranks is not None:  # of all ranks, if nothing had to be sent
        seconds = ranks.micro_batches * speed.pass_seconds + speed.update_seconds / ranks.size
        per_second = found["tokens_per_step"] / seconds
    flops = found["flops_per_token"]
    return {
        "tokens_per_second": per_second,
        "gflops": None if flops is None else per_second * flops / 1e9,
        "step_seconds": seconds,
        "run_seconds": seconds * found["steps"],
        "measured_rows": speed.measured_rows,
        "threads": ops.thread_count().count,
    }


# --------------------------------------------------------------------------- for people


def _text(found: Facts, of_texts: bool) -> list[str]:
    memory = found["memory"]
    lines = ["memory by family"]
    families = dict(memory["by_family"])
    if not families["logits"]:  # they share bytes
        families["scratch, logits chunk"] = families.pop("scratch")
    lines += [_row(family, nbytes) for family, nbytes in families.items() if nbytes]
    lines.append(_row("total", memory["total_bytes"]))
    lines.append(_row("interpreter, libraries", memory["imports_bytes"]))
    lines.append(_row("of the process", memory["total_bytes"] + memory["imports_bytes"]))
    lines += ["", *_layer_table(memory["by_layer"]), ""]
    word = "fits" if memory["fits"] else "does not fit"
    lines.append(f"{word}: {size_text(memory['limit_bytes'])} may be taken, {memory['limit']}")
    lines += _instead(found)
    flops = found["flops_per_token"]
    lines += [
        "",
        f"parameters            {found['parameters']:,}",
        f"operations per token  {'not counted by the model' if flops is None else f'{flops:,}'}",
        f"steps                 {found['steps']:,} of {found['tokens_per_step']:,} tokens",
    ]
    lines[-2:-2] = _group_lines(found.get("groups", []))
    lines += _rank_lines(found["ranks"]) if "ranks" in found else []
    lines += _speed_lines(found["speed"], of_texts) if "speed" in found else []
    if "ranks" in found and found.get("speed"):
        lines.append(
            "                      on machines like this one, and if nothing had to be sent"
        )
    return lines


def _group_lines(groups: list[Facts]) -> list[str]:
    """Say which parameters are trained otherwise than the others."""
    lines = []
    for number, group in enumerate(groups):
        how = group["how"] or "as the others"
        size = f"{group['numbers']:,} numbers (parameters: {group['parameters']})"
        lines.append(f"{'' if number else 'of these':<22}{how}: {size}")
    return lines


def _rank_lines(ranks: Facts) -> list[str]:
    """Say what is a rank's; memory above is that of one that has the most of everything."""
    each = f"{ranks['rows_of_rank']:,} of {ranks['rows_per_step']:,} rows a step"
    return [
        f"each of {ranks['ranks']} ranks".ljust(22)
        + f"{each} in micro-batches: {ranks['micro_batches_of_rank']:,}; "
        f"updates {ranks['parameters_updated']:,} numbers",
        "on the wire, a step   "
        f"gradients: {_flow(ranks, 'gradient')}; weights: {_flow(ranks, 'weight')}",
    ]


def _flow(ranks: Facts, what: str) -> str:
    sent, received = (size_text(ranks[f"{what}_bytes_{way}"]) for way in ("sent", "received"))
    return f"{sent} out, {received} in"


def _row(name: str, nbytes: int) -> str:
    return f"  {name:<24} {size_text(nbytes):>12}  {nbytes:>16,} B"


def _layer_table(by_layer: dict[str, dict[str, int]]) -> list[str]:
    """Return a line for each layer; equal blocks share one line."""
    groups: list[tuple[list[str], dict[str, int]]] = []
    for name, sizes in by_layer.items():
        kind = _kind(name)
        for names, known in groups:
            if known == sizes and _kind(names[0]) == kind:
                names.append(name)
                break
        else:
            groups.append(([name], sizes))
    families = [f for f in FAMILIES if any(f in sizes for sizes in by_layer.values())]
    lines = [f"{'by layer':<44}" + "".join(f"{f:>17}" for f in families)]
    for names, sizes in groups:
        name = names[0] if len(names) == 1 else f"{names[0]} ... ({len(names)} alike, each)"
        lines.append(
            f"  {name:<42}" + "".join(f"{size_text(sizes.get(f, 0)):>17}" for f in families)
        )
    return lines


def _kind(name: str) -> str:
    """Return a layer's name without its number."""
    return ".".join(part for part in name.split(".") if not part.isdecimal())


def _instead(found: Facts) -> list[str]:
    total, lines = found["memory"]["total_bytes"], []
    for setting, nbytes in found["instead"].items():
        change = nbytes - total
        sign = "less" if change < 0 else "more"
        lines.append(f"  {setting:<46} {size_text(nbytes):>12}, {size_text(abs(change))} {sign}")
    return ["", "instead", *lines]


def _speed_lines(speed: Facts | None, of_texts: bool) -> list[str]:
    if speed is None and of_texts:
        return [
            "not measured: the model makes vectors of texts, and a step takes as long as its texts "
            "are"
        ]
    if speed is None:
        return [
            "not measured: two blocks of this width do not fit the memory, the loss needs more "
            "than passes over rows of tokens, or the family cannot change their number"
        ]
    gflops = "" if speed["gflops"] is None else f"{speed['gflops']:,.0f} GFLOP/s, "
    return [
        f"expected              {speed['tokens_per_second']:,.0f} tokens/s, "
        f"{gflops}{step_time_text(speed['step_seconds'])} a step on "
        f"{speed['threads']} threads",
        f"time to finish        {duration_text(speed['run_seconds'])}, without evaluations and "
        f"checkpoints; from passes of {speed['measured_rows']} rows through one and two blocks",
    ]
