"""The table of metrics: names, labels, which direction is better, and figures.

The console's line, the live screen, reports, Prometheus, early stopping and the choice of
checkpoints read it, and nothing else lists them. It stands below the contracts because a
configuration names the best metric; code that shows metrics uses ``tisslm.tracking.metrics``.

The values are computed in ``training.step_metrics``, ``training.evaluation`` and the monitors.
Metrics that parts declare are not in this table.
"""

from __future__ import annotations

from collections.abc import Iterable

from tisslm.config.metric_types import Family, Figure, Metric

__all__ = ["BEST", "FAMILIES", "FIGURES", "METRICS", "RESERVED", "resolve_mode"]

#: The figures of reports, in their order; training and validation loss have a drawing of their own.
FIGURES = {
    figure.slug: figure
    for figure in (
        Figure(
            "accuracy", "Validation accuracy",
            "Share of the targets that the model ranks first, or among its first five.", "Loss",
        ),
        Figure(
            "retrieval", "Retrieval",
            "How near the top of all held-out texts those stand that belong to an anchor.", "Loss",
        ),
        Figure(
            "correlation", "Correlation with scores",
            "Of the similarity of the vectors of each held-out pair with its score.", "Loss",
        ),
        Figure(
            "bits-per-byte", "Bits per byte",
            "Validation loss by bytes of text: comparable between tokenizers.", "Loss",
        ),
        Figure(
            "eval-preferences", "Preferences", "Share of held-out pairs in the right order.", "Loss"
        ),
        Figure("eval-rewards", "Rewards", "Of held-out answers, and what is between.", "Loss"),
        Figure("eval-logps", "Log-probabilities", "Of held-out answers, in nats.", "Loss"),
        Figure("perplexity", "Perplexity", "Exponential of the validation loss.", "Loss", log=True),
        Figure(
            "learning-rate", "Learning rate", "Of the update that each step made.", "Optimization",
        ),
        Figure(
            "grad-norm", "Gradient norm",
            "Euclidean norm of all gradients before clipping; the level is max_grad_norm.",
            "Optimization", log=True, smooth=True, level="max_grad_norm",
        ),
        Figure(
            "clipped", "Clipped updates",
            "Share of the updates since the last line that were clipped.", "Optimization",
        ),
        Figure(
            "update-ratio", "Update ratio", "Norm of the update by norm of the parameters.",
            "Optimization", log=True, smooth=True,
        ),
        Figure(
            "param-norm", "Norm of the parameters", "Euclidean norm of all, before the update.",
            "Optimization",
        ),
        Figure(
            "loss-scale", "Loss scale", "What fp16's gradients are multiplied by.",
            "Optimization", log=True,
        ),
        Figure(
            "skipped", "Skipped steps", "Steps without an update, since the start.", "Optimization",
        ),
        Figure("throughput", "Throughput", "Input tokens per second of the last updates.", "Speed"),
        Figure(
            "step-time", "Time of a step",
            "In milliseconds; data is the wait for the next batch.", "Speed",
        ),
        Figure(
            "mfu", "Share of the peak", "Of the machine's multiplications at this precision.",
            "Speed",
        ),
        Figure("tflops", "Operations", "Of the model's products, in 10^12 per second.", "Speed"),
        Figure(
            "cpu", "Processor use",
            "Percent of the time of all processors that was not idle.", "Speed",
        ),
        Figure("eval-time", "Time of an evaluation", "In seconds.", "Speed"),
        Figure("eval-speed", "Speed of evaluations", "Windows per second.", "Speed"),
        Figure(
            "memory", "Memory",
            "Resident and peak memory of the process, in GiB, beside what the run was planned to "
            "take, and the interpreter and its libraries held at the start.", "Memory",
        ),
    )
}  # fmt: skip

#: Every metric of the Trainer, in the order of lines and of a figure's lines.
METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "eval/loss", "validation", format="{:.4f}", line="loss {:.4f}", better="min",
        ),
        Metric(
            "eval/perplexity", "perplexity", line="perplexity {:.2f}", better="min",
            figure=FIGURES["perplexity"],
        ),
        Metric(
            "eval/bpb", "bits per byte", format="{:.4f}", line="bpb {:.4f}", better="min",
            figure=FIGURES["bits-per-byte"], place=4,
        ),
        Metric(
            "eval/accuracy", "first", format="{:.1%}", line="accuracy {:.1%}", better="max",
            figure=FIGURES["accuracy"], short="accuracy", place=3,
        ),
        Metric(
            "eval/top5_accuracy", "first five", format="{:.1%}", line="top-5 accuracy {:.1%}",
            better="max", figure=FIGURES["accuracy"], short="top-5 accuracy",
        ),
        Metric(
            "eval/recall_at_1", "recall at 1", format="{:.1%}", line="recall@1 {:.1%}",
            better="max", figure=FIGURES["retrieval"], short="recall at 1",
        ),
        Metric(
            "eval/recall_at_5", "recall at 5", format="{:.1%}", line="@5 {:.1%}", better="max",
            figure=FIGURES["retrieval"],
        ),
        Metric(
            "eval/recall_at_10", "recall at 10", format="{:.1%}", line="@10 {:.1%}", better="max",
            figure=FIGURES["retrieval"], short="recall at 10",
        ),
        Metric("eval/accuracy_at_1", "one found at 1", format="{:.1%}", better="max"),
        Metric("eval/accuracy_at_5", "one found at 5", format="{:.1%}", better="max"),
        Metric("eval/accuracy_at_10", "one found at 10", format="{:.1%}", better="max"),
        Metric(
            "eval/mrr_at_10", "reciprocal rank", format="{:.4f}", line="mrr@10 {:.4f}",
            better="max", figure=FIGURES["retrieval"],
        ),
        Metric(
            "eval/ndcg_at_10", "gain at 10", format="{:.4f}", line="ndcg@10 {:.4f}", better="max",
            figure=FIGURES["retrieval"],
        ),
        Metric(
            "eval/triplet_accuracy", "nearer to the positive", format="{:.1%}",
            line="triplets {:.1%}", better="max", figure=FIGURES["retrieval"],
        ),
        Metric(
            "eval/spearman", "Spearman", format="{:.4f}", line="spearman {:.4f}", better="max",
            figure=FIGURES["correlation"], short="spearman",
        ),
        Metric(
            "eval/pearson", "Pearson", format="{:.4f}", line="pearson {:.4f}", better="max",
            figure=FIGURES["correlation"],
        ),
        Metric(
            "eval/ema_loss", "validation, averaged weights", format="{:.4f}", line="ema {:.4f}",
            better="min", short="averaged",
        ),
        Metric(
            "eval/ema_accuracy", "first, averaged weights", format="{:.1%}", better="max",
            figure=FIGURES["accuracy"],
        ),
        Metric(
            "eval/ema_ndcg_at_10", "gain at 10, averaged weights", format="{:.4f}", better="max",
            figure=FIGURES["retrieval"],
        ),
        Metric(
            "eval/ema_spearman", "Spearman, averaged weights", format="{:.4f}", better="max",
            figure=FIGURES["correlation"],
        ),
        Metric(
            "eval/rewards/accuracies", "chosen above rejected", format="{:.1%}",
            line="right {:.1%}", better="max", figure=FIGURES["eval-preferences"],
            short="pairs in order",
        ),
        Metric(
            "eval/rewards/margins", "margin", format="{:.4f}", line="margin {:.3f}", better="max",
            figure=FIGURES["eval-rewards"], short="reward margin",
        ),
        Metric("eval/rewards/chosen", "chosen", figure=FIGURES["eval-rewards"]),
        Metric("eval/rewards/rejected", "rejected", figure=FIGURES["eval-rewards"]),
        Metric("eval/logps/chosen", "chosen", figure=FIGURES["eval-logps"]),
        Metric("eval/logps/rejected", "rejected", figure=FIGURES["eval-logps"]),
        Metric("eval/runtime", "evaluation", figure=FIGURES["eval-time"]),
        Metric("eval/samples_per_second", "windows per second", figure=FIGURES["eval-speed"]),
        Metric(
            "train/loss", "training", format="{:.4f}", line="loss {:.4f}", better="min",
            short="loss",
        ),
        Metric("train/perplexity", "perplexity", place=1),
        Metric("train/epoch", "epoch"),
        Metric(
            "train/num_input_tokens_seen", "tokens seen", format="{:count}", place=7,
        ),
        Metric(
            "train/learning_rate", "learning rate", format="{:.2e}", line="lr {:.1e}",
            figure=FIGURES["learning-rate"],
        ),
        Metric(
            "train/grad_norm", "gradient norm", line="grad_norm {:norm}",
            figure=FIGURES["grad-norm"],
        ),
        Metric(
            "train/grad_norm_clipped_fraction", "clipped", format="{:.0%}", unit="clipped",
            figure=FIGURES["clipped"],
        ),
        Metric(
            "train/update_ratio", "update ratio", format="{:.2e}", figure=FIGURES["update-ratio"],
            place=2,
        ),
        Metric("train/param_norm", "norm", figure=FIGURES["param-norm"]),
        Metric(
            "train/loss_scale", "loss scale", format="{:count}", figure=FIGURES["loss-scale"],
            place=8,
        ),
        Metric(
            "train/skipped_steps", "skipped steps", format="{:count}", figure=FIGURES["skipped"],
            short="skipped", place=9,
        ),
        Metric(
            "train/tokens_per_second", "tokens per second", format="{:rate}", line="{:rate}",
            figure=FIGURES["throughput"], short="speed",
        ),
        Metric(
            "train/step_time_ms", "step", format="{:ms}", figure=FIGURES["step-time"],
            short="step time",
        ),
        Metric("train/data_time_ms", "data", format="{:ms}", figure=FIGURES["step-time"]),
        Metric(
            "train/mfu", "share of the peak", format="{:.1%} of peak", line="{:.1%} of peak",
            figure=FIGURES["mfu"], short="arithmetic",
        ),
        Metric("train/tflops", "TFLOP/s", format="{:gflops}", figure=FIGURES["tflops"]),
        Metric(
            "system/cpu_percent", "processor use", format="{:.0f}%", figure=FIGURES["cpu"],
            short="cpu", place=5,
        ),
        Metric(
            "memory/rss_gib", "resident", "GiB", "{:.2f}", "mem {:.1f} GiB",
            figure=FIGURES["memory"], short="memory",
        ),
        Metric("memory/peak_rss_gib", "peak", "GiB", "{:.2f}", figure=FIGURES["memory"]),
        Metric("memory/planned_gib", "planned", "GiB", "{:.2f}", figure=FIGURES["memory"]),
        Metric(
            "memory/imports_gib", "interpreter, libraries", "GiB of the memory", "{:.2f}",
            figure=FIGURES["memory"], short="imports", place=6,
        ),
    )
}  # fmt: skip

#: Families of metrics, for each parameter or place, in the order of heat maps.
FAMILIES = (
    Family(
        "grad_norm", "parameter", "", "grad-norms", "Gradient norms",
        "Euclidean norm of each parameter's gradient.", "log",
    ),
    Family(
        "weight_norm", "parameter", "", "weight-norms", "Weight norms",
        "Euclidean norm of each parameter.", "log",
    ),
    Family(
        "update_norm", "parameter", "", "update-norms", "Update norms",
        "Euclidean norm of what an update added.", "log",
    ),
    Family(
        "update_ratio", "parameter", "", "update-ratios", "Update ratios",
        "Norm of the update by norm of the parameter; about 1e-3 is usual.", "log",
    ),
    Family(
        "activation", "place", "mean", "activation-mean", "Activations: mean", "By place.",
        "signed",
    ),
    Family(
        "activation", "place", "std", "activation-std", "Activations: standard deviation",
        "By place.", "log",
    ),
    Family(
        "activation", "place", "absmax", "activation-absmax",
        "Activations: largest absolute value", "By place.", "log",
    ),
    Family(
        "activation", "place", "frac_zero", "activation-zero", "Activations: share of zeros",
        "1 is a place where nothing is left.", "share",
    ),
    Family(
        "activation", "place", "frac_saturated", "activation-saturated",
        "Activations: saturation",
        "Share of the values at which the activation is flat.", "share",
    ),
    Family(
        "attention", "place", "entropy", "attention-entropy", "Attention entropy",
        "Mean over heads and queries, in nats; 0 looks at one token.", "linear",
    ),
    Family(
        "attention", "place", "entropy_min", "attention-entropy-min",
        "Attention entropy: least head",
        "In nats; a head that stays at 0 has collapsed.", "linear",
    ),
    Family("weight", "parameter", r"p\d+"),
    Family("weights", "parameter"),
    Family("gradients", "parameter"),
)  # fmt: skip

#: Metrics that may be the best metric of any run.
BEST = tuple(metric.name for metric in METRICS.values() if metric.better)

#: Groups of the Trainer's, monitors' and samples' metrics, which those of a part may not use.
RESERVED = frozenset(
    {metric.group for metric in METRICS.values()}
    | {family.group for family in FAMILIES}
    | {"monitor", "sample"}
)


def resolve_mode(metric: str, mode: str, own: Iterable[Metric] = ()) -> str:
    """Return "min" or "max": the direction in which a metric improves.

    Parameters
    ----------
    metric : str
        An unknown one is taken to be better when it is lower.
    mode : {"auto", "min", "max"}
    own : iterable of Metric
        The metrics that the parts of the run declare.
    """
    if mode != "auto":
        return mode
    known = METRICS | {found.name: found for found in own}
    return (known[metric].better if metric in known else "") or "min"
