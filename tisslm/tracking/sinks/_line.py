"""Metrics as one line of text for people.

What does not live here: where and when it is shown (``console``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tisslm.contracts.metric_values import Text
from tisslm.tracking.terminal.words import duration, printable, rate

__all__ = ["describe", "describe_evaluation", "describe_samples", "position"]


def position(step: int, max_steps: int) -> str:
    """Return where a run is, such as ``step   500/5000 (10.0%)``."""
    if max_steps <= 0:
        return f"step {step:>5}"
    width = max(5, len(str(max_steps)))
    return f"step {step:>{width}}/{max_steps} ({100 * step / max_steps:.1f}%)"


def describe(metrics: Mapping[str, Any], eta: float | None) -> str:
    """Return the metrics of training that fit on a line; those that are missing are left out.

    Parameters
    ----------
    metrics : mapping
    eta : float, optional
        Seconds that the run will still take.
    """
    parts = [text(metrics[name]) for name, text in _PARTS.items() if name in metrics]
    if eta is not None:
        parts.append(f"eta {duration(eta)}")
    return " | ".join(parts)


def describe_evaluation(metrics: Mapping[str, Any]) -> str:
    """Return the metrics of an evaluation, without how long it took; empty if there are none."""
    found = [(name.removeprefix("eval/"), metrics[name]) for name in metrics if name[:5] == "eval/"]
    shown = [(n, value) for n, value in found if n not in _TIMES and not isinstance(value, Text)]
    return " | ".join(
        f"eval {_EVALUATION.get(name, _number)(name, value)}" for name, value in shown
    )


def _number(name: str, value: float) -> str:
    return f"{name} {value:.4f}"


def describe_samples(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the texts among the metrics, each text below its name."""
    for name, value in metrics.items():
        if isinstance(value, Text):
            yield f"{printable(name)}:"
            yield from (f"    {line}" for line in printable(value.text).split("\n"))


#: Of an evaluation, and not of the model.
_TIMES = ("runtime", "samples_per_second")

_EVALUATION: dict[str, Callable[[str, Any], str]] = {
    "perplexity": lambda name, x: f"{name} {x:.2f}",
    "accuracy": lambda name, x: f"{name} {x:.1%}",
    "top5_accuracy": lambda name, x: f"top-5 accuracy {x:.1%}",
}

_PARTS: dict[str, Callable[[Any], str]] = {
    "train/loss": lambda x: f"loss {x:.4f}",
    "train/learning_rate": lambda x: f"lr {x:.1e}",
    "train/grad_norm": lambda x: f"grad_norm {x:.2f}" if x < 1e4 else f"grad_norm {x:.1e}",
    "train/tokens_per_second": rate,
    "train/mfu": lambda x: f"{100 * x:.1f}% of peak",
    "memory/rss_gib": lambda x: f"mem {x:.1f} GiB",
}
