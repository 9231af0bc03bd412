"""The numbers of a board: which metrics are shown, in which words, and how they are set in columns.

What does not live here: the rest of the board (``board``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tisslm.tracking.terminal.curve import sparkline
from tisslm.tracking.terminal.history import History
from tisslm.tracking.terminal.ink import Glyphs
from tisslm.tracking.terminal.spans import Line, pad
from tisslm.tracking.terminal.words import count, duration, rate, short

__all__ = ["grid", "numbers"]

#: Columns of a number with its name, and of the curve of the speed.
_COLUMN = 38
_LABEL = 14
_SPARK = 12

_FORMS: Mapping[str, Callable[[float], str]] = {
    "train/perplexity": short,
    "train/learning_rate": lambda x: f"{x:.2e}",
    "train/update_ratio": lambda x: f"{x:.2e}",
    "eval/accuracy": lambda x: f"{100 * x:.1f}%",
    "eval/bpb": lambda x: f"{x:.4f}",
    "train/tflops": lambda x: f"{1e3 * x:.0f} GFLOP/s",
    "train/num_input_tokens_seen": count,
    "train/loss_scale": count,
    "train/skipped_steps": count,
    "system/cpu_percent": lambda x: f"{x:.0f}%",
    "memory/imports_gib": lambda x: f"{x:.2f} GiB of the memory",
}

_NAMES: Mapping[str, str] = {
    "train/perplexity": "perplexity",
    "train/learning_rate": "learning rate",
    "train/update_ratio": "update ratio",
    "eval/accuracy": "accuracy",
    "eval/bpb": "bits per byte",
    "train/num_input_tokens_seen": "tokens seen",
    "train/loss_scale": "loss scale",
    "train/skipped_steps": "skipped",
    "system/cpu_percent": "cpu",
    "memory/imports_gib": "imports",
}

#: What there may be too little room for, in this order after the first six.
_MORE = (
    "train/perplexity",
    "train/update_ratio",
    "eval/accuracy",
    "eval/bpb",
    "system/cpu_percent",
    "memory/imports_gib",
    "train/num_input_tokens_seen",
    "train/loss_scale",
    "train/skipped_steps",
)


def numbers(history: History, max_steps: int, glyphs: Glyphs) -> list[tuple[str, Line]]:
    """Return names and values of what is known, the most important first."""
    found = [*_learning(history), *_machine(history, glyphs)]
    for name in _MORE:
        if name in history.latest:
            found.append((_NAMES[name], [(_FORMS[name](history.latest[name]), "")]))
    return found


def _learning(history: History) -> Iterator[tuple[str, Line]]:
    """Yield losses, learning rate and gradient norm."""
    latest = history.latest
    if "train/loss" in latest:
        loss = latest["train/loss"]
        yield "loss", [(f"{loss:.4f}", "bold" if loss == loss and abs(loss) < 1e300 else "alarm")]
    if "eval/loss" in latest:
        line: Line = [(f"{latest['eval/loss']:.4f}", "mark")]
        if history.best is not None:
            line.append((f" best {history.best[1]:.4f} at {history.best[0]}", "dim"))
        yield "validation", line
    if "train/learning_rate" in latest:
        yield "learning rate", [(f"{latest['train/learning_rate']:.2e}", "")]
    if "train/grad_norm" in latest:
        line = [(short(latest["train/grad_norm"]), "")]
        clipped = latest.get("train/grad_norm_clipped_fraction")
        if clipped is not None:
            line.append((f" {100 * clipped:.0f}% clipped", "dim"))
        yield "gradient norm", line


def _machine(history: History, glyphs: Glyphs) -> Iterator[tuple[str, Line]]:
    """Yield speed, step time, share of the peak and memory."""
    latest = history.latest
    if "train/tokens_per_second" in latest:
        spark = sparkline(list(history.speeds), _SPARK, glyphs)
        speed = rate(latest["train/tokens_per_second"])
        yield "speed", [(speed, ""), (f" {spark}" if spark else "", "curve")]
    if "train/step_time_ms" in latest:
        line: Line = [(_milliseconds(latest["train/step_time_ms"]), "")]
        if "train/data_time_ms" in latest:
            line.append((f" data {_milliseconds(latest['train/data_time_ms'])}", "dim"))
        yield "step time", line
    if "train/mfu" in latest:
        line = [(f"{100 * latest['train/mfu']:.1f}% of peak", "")]
        if "train/tflops" in latest:
            line.append((f" {_FORMS['train/tflops'](latest['train/tflops'])}", "dim"))
        yield "arithmetic", line
    if "memory/rss_gib" in latest:
        yield "memory", _memory(latest)


def _memory(latest: Mapping[str, float]) -> Line:
    """Return resident memory, beside the plan with what imports hold, or the most so far."""
    line: Line = [(f"{latest['memory/rss_gib']:.2f} GiB", "")]
    if latest.get("memory/planned_gib", 0.0) > 0.0:
        expected = latest["memory/planned_gib"] + latest.get("memory/imports_gib", 0.0)
        line.append((f" of {expected:.2f} planned", "dim"))
    elif "memory/peak_rss_gib" in latest:
        line.append((f" peak {latest['memory/peak_rss_gib']:.2f}", "dim"))
    return line


def _milliseconds(ms: float) -> str:
    if ms < 0.995e3:
        return f"{ms:.3g} ms"
    return f"{ms / 1e3:.3g} s" if ms < 59.5e3 else duration(ms / 1e3)


def grid(items: list[tuple[str, Line]], columns: int) -> list[Line]:
    """Set names and values in columns, down the first and then down the next."""
    if not items:
        return []
    across = max(1, columns // _COLUMN)
    down = -(-len(items) // across)
    room = columns // across
    lines = []
    for row in range(down):
        line: Line = []
        for name, value in items[row::down]:
            cell: Line = [(f"{name:<{_LABEL}} ", "dim"), *value]
            line += [*pad(cell, room - 1), (" ", "")]
        lines.append(line)
    return lines
