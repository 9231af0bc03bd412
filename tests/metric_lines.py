"""Run directories with every kind of metric, for tests of what reads them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tisslm.system.strict_json import plain_number

PARTS = ("attention.qkv.weight", "attention.qkv.bias", "mlp.up.weight", "mlp.down.weight")


def parameters(layers: int) -> list[str]:
    names = [f"blocks.{i}.{part}" for i in range(layers) for part in PARTS]
    return ["embedding.token.weight", *names, "head.norm.weight"]


def places(layers: int) -> list[str]:
    names = [f"blocks.{i}.{kind}" for i in range(layers) for kind in ("attention", "mlp")]
    return ["embedding", *names, "head"]


def histogram(values: np.ndarray, bins: int = 16) -> dict[str, Any]:
    counts, edges = np.histogram(values, bins)
    sums = {"total": float(values.sum()), "squares": float((values**2).sum())}
    return {"edges": edges.tolist(), "counts": counts.tolist(), **sums}


def step_metrics(step: int, steps: int) -> dict[str, float]:
    """Return every metric of a step, evaluation aside."""
    share = step / steps
    return {
        "train/loss": 1.5 + 3 * math.exp(-6 * share) + 0.1 * math.sin(9.0 * step),
        "train/perplexity": 9.0,
        "train/learning_rate": 1e-3 * (1 - 0.9 * share),
        "train/grad_norm": 0.5 + 2 * math.exp(-9 * share) + 0.1 * math.cos(7.0 * step),
        "train/grad_norm_clipped_fraction": max(0.0, 1 - 3 * share),
        "train/update_ratio": 1e-3 * (1.1 - share),
        "train/epoch": share,
        "train/num_input_tokens_seen": 1024 * step,
        "train/tokens_per_second": 20_000 + 50 * math.sin(step),
        "train/step_time_ms": 51.2,
        "train/data_time_ms": 0.3,
        "train/mfu": 0.4,
        "train/tflops": 0.18,
        "train/loss_scale": 65536.0,
        "train/skipped_steps": step // 50,
        "memory/rss_gib": 0.2 + 0.01 * share,
        "memory/peak_rss_gib": 0.22,
        "memory/planned_gib": 0.125,
        "memory/imports_gib": 0.1,
        "system/cpu_percent": 199.0,
    }


def monitor_metrics(step: int, steps: int, layers: int, bins: int = 16) -> dict[str, Any]:
    """Return what all monitors find at a step."""
    rng, found = np.random.default_rng(step), {}
    share = step / steps
    for i, name in enumerate(parameters(layers)):
        values = rng.normal(0.0, 0.02 * (1 + share), 500)
        found[f"grad_norm/{name}"] = 0.1 * (i + 1) * math.exp(-share)
        found[f"weight_norm/{name}"] = 1.0 + i + share
        found[f"update_norm/{name}"] = 1e-3 * (i + 1)
        found[f"update_ratio/{name}"] = 1e-3 * (1.2 - share)
        found[f"weights/{name}"] = histogram(values, bins)
        for q in (1, 50, 99):
            found[f"weight/{name}/p{q:02d}"] = float(np.percentile(values, q))
    for i, place in enumerate(places(layers)):
        found[f"activation/{place}/mean"] = 0.1 * math.sin(i + step)
        found[f"activation/{place}/std"] = 1.0 + 0.1 * i
        found[f"activation/{place}/absmax"] = 4.0 + i + share
        found[f"activation/{place}/frac_zero"] = 0.0
        found[f"activation/{place}/frac_saturated"] = 0.1 * share
        if place.endswith("attention"):
            found[f"attention/{place}/entropy"] = 3.0 - share
            found[f"attention/{place}/entropy_min"] = 1.0 - share
    return {**found, "monitor/activation_stats_ms": 3.0, "monitor/weight_distribution_ms": 7.0}


def evaluation(step: int, steps: int) -> dict[str, Any]:
    """Return what an evaluation finds."""
    loss = 1.6 + 3 * math.exp(-6 * step / steps)
    return {
        "eval/loss": loss,
        "eval/perplexity": math.exp(loss),
        "eval/accuracy": 0.5,
        "eval/top5_accuracy": 0.8,
        "eval/bpb": loss / math.log(2),
        "eval/runtime": 0.7,
        "eval/samples_per_second": 500.0,
    }


def averaged(step: int, steps: int) -> dict[str, Any]:
    """Return what evaluations find of averaged weights, of targets and of texts."""
    loss = 1.5 + 3 * math.exp(-6 * step / steps)
    found = {"loss": loss, "accuracy": 0.55, "ndcg_at_10": 0.4, "spearman": 0.3}
    return {f"eval/ema_{name}": value for name, value in found.items()}


def texts(step: int, steps: int) -> dict[str, Any]:
    """Return what an evaluation of an encoder finds, of examples of every kind."""
    share = 1 - math.exp(-3 * step / steps)
    depths = {
        f"eval/{name}_at_{k}": share * k / 10 for name in ("recall", "accuracy") for k in (1, 5, 10)
    }
    others = ("mrr_at_10", "ndcg_at_10", "triplet_accuracy", "spearman", "pearson")
    return depths | {f"eval/{name}": share / 2 for name in others}


def preferences(step: int, steps: int) -> dict[str, Any]:
    """Return what an evaluation of pairs of answers finds."""
    margin = 1 - math.exp(-3 * step / steps)
    rewards = {"chosen": margin / 4, "rejected": -margin, "margins": margin, "accuracies": 0.8}
    found = {f"eval/rewards/{name}": value for name, value in rewards.items()}
    return found | {"eval/logps/chosen": -40.0 + margin, "eval/logps/rejected": -45.0 - margin}


def rows(
    steps: int = 60, layers: int = 2, *, every: int = 1, look: int = 20
) -> list[dict[str, Any]]:
    """Return the lines of a run with every metric that there is."""
    found: list[dict[str, Any]] = []
    for step in range(every, steps + 1, every):
        seen = monitor_metrics(step, steps, layers) if step % look == 0 else {}
        found.append({"step": step, **step_metrics(step, steps), **seen})
        if step % look == 0:
            found.append({"step": step, **evaluation(step, steps)})
            found.append({"step": step, "sample/0": {"text": f"After {step} steps, <b>it</b> & I"}})
    return found


def line(row: Mapping[str, Any]) -> str:
    """Return a line as the sink ``jsonl`` writes it."""
    plain = {k: plain_number(v) if isinstance(v, float) else v for k, v in row.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def write_run(
    path: Path,
    found: Iterable[Mapping[str, Any]] | None = None,
    *,
    config: str = '[training]\nmax_steps = 60\nmax_grad_norm = 1.0\n\n[log]\nsinks = ["jsonl"]\n',
    summary: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run directory; without rows, with every metric."""
    path.mkdir(parents=True, exist_ok=True)
    lines = map(line, rows() if found is None else found)
    (path / "metrics.jsonl").write_text("".join(lines), "utf-8")
    if config:
        (path / "config.resolved.toml").write_text(config, "utf-8")
    known = {
        "status": "completed",
        "tokens_per_second": 2e4,
        "seconds": 130.0,
        "parameters": 817152,
    }
    (path / "summary.json").write_text(json.dumps(known if summary is None else summary))
    machine = {"versions": {"tisslm": "0.1.0"}, "threads": {"count": 2}}
    (path / "environment.json").write_text(json.dumps(environment or machine))
    return path
