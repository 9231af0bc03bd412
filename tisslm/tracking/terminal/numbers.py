"""The numbers of a board: the metrics that are shown, their words, and their columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tisslm.config.metrics import METRICS
from tisslm.tracking.metrics import value_text
from tisslm.tracking.terminal.curve import sparkline
from tisslm.tracking.terminal.history import History
from tisslm.tracking.terminal.ink import Glyphs
from tisslm.tracking.terminal.spans import Line, pad
from tisslm.tracking.terminal.words import one_line

__all__ = ["grid", "numbers"]

#: Columns of a number with its name, and of the curve of the speed.
_COLUMN = 38
_LABEL = 14
_SPARK = 12


def numbers(history: History, max_steps: int, glyphs: Glyphs) -> list[tuple[str, Line]]:
    """Return names and values of what is known, the most important first."""
    found = [*_learning(history), *_machine(history, glyphs)]
    more = sorted((m for m in METRICS.values() if m.place), key=lambda metric: metric.place)
    for metric in [*more, *history.own]:
        if metric.name in history.latest:
            text = one_line(value_text(metric, history.latest[metric.name]))
            found.append((one_line(metric.screen_label), [(text, "")]))
    return found


def _learning(history: History) -> Iterator[tuple[str, Line]]:
    """Yield losses, learning rate and gradient norm."""
    latest = history.latest
    if "train/loss" in latest:
        loss = latest["train/loss"]
        finite = loss == loss and abs(loss) < 1e300
        yield _label("train/loss"), [(_text(latest, "train/loss"), "bold" if finite else "alarm")]
    if "eval/loss" in latest:
        line: Line = [(_text(latest, "eval/loss"), "mark")]
        if history.best is not None:
            best = value_text(METRICS["eval/loss"], history.best[1])
            line.append((f" best {best} at {history.best[0]}", "dim"))
        yield _label("eval/loss"), line
    if "train/learning_rate" in latest:
        yield _label("train/learning_rate"), [(_text(latest, "train/learning_rate"), "")]
    if "train/grad_norm" in latest:
        line = [(_text(latest, "train/grad_norm"), "")]
        if "train/grad_norm_clipped_fraction" in latest:
            line.append((f" {_text(latest, 'train/grad_norm_clipped_fraction')}", "dim"))
        yield _label("train/grad_norm"), line


def _machine(history: History, glyphs: Glyphs) -> Iterator[tuple[str, Line]]:
    """Yield speed, step time, share of the peak and memory."""
    latest = history.latest
    if "train/tokens_per_second" in latest:
        spark = sparkline(list(history.speeds), _SPARK, glyphs)
        speed = _text(latest, "train/tokens_per_second")
        yield (
            _label("train/tokens_per_second"),
            [(speed, ""), (f" {spark}" if spark else "", "curve")],
        )
    if "train/step_time_ms" in latest:
        line: Line = [(_text(latest, "train/step_time_ms"), "")]
        if "train/data_time_ms" in latest:
            waited = _text(latest, "train/data_time_ms")
            line.append((f" {_label('train/data_time_ms')} {waited}", "dim"))
        yield _label("train/step_time_ms"), line
    if "train/mfu" in latest:
        line = [(_text(latest, "train/mfu"), "")]
        if "train/tflops" in latest:
            line.append((f" {_text(latest, 'train/tflops')}", "dim"))
        yield _label("train/mfu"), line
    if "memory/rss_gib" in latest:
        yield _label("memory/rss_gib"), _memory(latest)


def _memory(latest: Mapping[str, float]) -> Line:
    """Return resident memory, beside the plan with what imports hold, or the most so far."""
    line: Line = [(_text(latest, "memory/rss_gib"), "")]
    if latest.get("memory/planned_gib", 0.0) > 0.0:
        expected = latest["memory/planned_gib"] + latest.get("memory/imports_gib", 0.0)
        line.append((f" of {expected:.2f} planned", "dim"))
    elif "memory/peak_rss_gib" in latest:
        line.append((f" peak {latest['memory/peak_rss_gib']:.2f}", "dim"))
    return line


def _label(name: str) -> str:
    return METRICS[name].screen_label


def _text(latest: Mapping[str, float], name: str) -> str:
    return value_text(METRICS[name], latest[name])


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
            cell: Line = [(f"{name[:_LABEL]:<{_LABEL}} ", "dim"), *value]
            line += [*pad(cell, room - 1), (" ", "")]
        lines.append(line)
    return lines
