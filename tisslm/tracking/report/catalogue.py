"""Which figures a run has: the metrics that belong together, with a sentence on each figure.

A metric that no entry names has a figure of its own, so what a plugin measures is shown, too.

What does not live here: drawing (``curves``, ``heatmaps``, ``histograms``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tisslm.config.metric_types import LONGEST, Figure, Metric
from tisslm.config.metrics import FAMILIES, FIGURES, METRICS
from tisslm.tracking.report.reading import Run
from tisslm.tracking.report.series import Series

__all__ = ["MOST_OTHERS", "Chart", "Grid", "Line", "comparison", "curves", "grids", "others"]

#: Figures of metrics that no entry of the catalogue names.
MOST_OTHERS = 40

#: The half-life of smoothing: a share of the run's steps, and so many lines at least.
_SHARE, _LEAST = 0.01, 3.0


@dataclass(frozen=True)
class Line:
    """One line of a figure.

    Attributes
    ----------
    label : str
    series : Series
    color : int
        The number of one of the theme's colours.
    style : {"solid", "faint", "points"}
        ``faint`` is what a smoothed line was made of; ``points`` has a mark at each value.
    """

    label: str
    series: Series
    color: int = 0
    style: str = "solid"


@dataclass(frozen=True)
class Chart:
    """Lines over one axis.

    Attributes
    ----------
    slug : str
        Its name in files and links.
    title, about : str
    lines : tuple of Line
    log : bool
        True for a logarithmic vertical axis.
    section : str
    x_label : str
    wide : bool
        True for a figure as wide as the page.
    level : float, optional
        A horizontal line: what the metric is compared with.
    """

    slug: str
    title: str
    about: str
    lines: tuple[Line, ...]
    log: bool = False
    section: str = "Other metrics"
    x_label: str = "step"
    wide: bool = False
    level: float | None = None


@dataclass(frozen=True)
class Grid:
    """A value for each place of the model and each step: a heat map.

    Attributes
    ----------
    slug, title, about : str
    rows : tuple of str
        The places, in the model's order.
    series : tuple of Series
        One for each row.
    scale : {"log", "share", "linear", "signed"}
        ``share`` goes from 0 to 1; ``signed`` is symmetric around 0.
    """

    slug: str
    title: str
    about: str
    rows: tuple[str, ...]
    series: tuple[Series, ...]
    scale: str


_LOSS = ("train/loss", "eval/loss")
_LOSS_ABOUT = "Cross-entropy in nats per target."
_SMOOTH_ABOUT = "The strong line is smoothed: a value's weight halves every {steps} steps."

#: What each monitor costs.
_COST = r"monitor/(.+)_ms"


# --------------------------------------------------------------------------- one run


def curves(run: Run) -> list[Chart]:
    """Return the figures of the catalogue that a run has metrics for."""
    half_life = _half_life(run)
    charts = list(_loss_chart(run, half_life))
    for figure, metrics in _figures(run.own).items():
        lines = tuple(
            line
            for number, metric in enumerate(metrics)
            for line in _lines(
                run, metric.name, metric.label, number, half_life if figure.smooth else 0.0
            )
        )
        if lines:
            charts.append(_chart(figure, lines, run, half_life))
    return [*charts, *_cost_chart(run)]


def _figures(own: Iterable[Metric]) -> dict[Figure, list[Metric]]:
    """Return every figure with its metrics: those of the table, and those of parts."""
    found: dict[Figure, list[Metric]] = {figure: [] for figure in FIGURES.values()}
    for metric in METRICS.values():
        if metric.figure is not None:
            found[metric.figure].append(metric)
    for number, metric in enumerate(own):
        figure = metric.figure or Figure(f"metric-{number}", metric.label)
        about = f"{figure.about} In {metric.unit}." if metric.unit else figure.about
        slug = f"own-{figure.slug}"[:LONGEST]
        figure = replace(figure, slug=slug, about=about.strip()[:LONGEST])
        same = next((other for other in found if other.slug == slug), figure)
        found.setdefault(same, []).append(metric)
    return found


def _loss_chart(run: Run, half_life: float) -> Iterator[Chart]:
    train, held_out = (run.scalars.get(name) for name in _LOSS)
    lines = [*_lines(run, "train/loss", "training", 0, half_life)] if train else []
    if held_out:
        lines.append(Line("validation", held_out, 1, "points"))
    if averaged := run.scalars.get("eval/ema_loss"):
        lines.append(Line("validation, averaged weights", averaged, 2, "points"))
    if lines:
        about = _LOSS_ABOUT + (f" {_SMOOTH_ABOUT.format(steps=_steps(half_life))}" if train else "")
        yield Chart("loss", "Loss", about, tuple(lines), section="Loss", wide=True)


def _lines(run: Run, name: str, label: str, color: int, half_life: float) -> Iterator[Line]:
    """Yield a metric's line; with a half-life, as it is and smoothed."""
    series = run.scalars.get(name)
    if not series:
        return
    few = "points" if len(series) <= 60 else "solid"
    if half_life and len(series) > 20:
        yield Line(f"{label}, as it is", series, color, "faint")
        yield Line(f"{label}, smoothed", series.smoothed(half_life), color)
    else:
        yield Line(label, series, color, few)


def _chart(figure: Figure, lines: tuple[Line, ...], run: Run, half_life: float) -> Chart:
    level = run.setting("training", figure.level) if figure.level else None
    smooth = any(line.style == "faint" for line in lines)
    note = f" {_SMOOTH_ABOUT.format(steps=_steps(half_life))}" if smooth else ""
    return Chart(
        figure.slug,
        figure.title,
        figure.about + note,
        lines,
        log=figure.log,
        section=figure.section,
        level=float(level) if isinstance(level, int | float) and level > 0 else None,
    )


def _cost_chart(run: Run) -> Iterator[Chart]:
    found = [(re.fullmatch(_COST, name), series) for name, series in run.scalars.items()]
    lines = tuple(
        Line(match[1], series, number, "points" if len(series) <= 60 else "solid")
        for number, (match, series) in enumerate((m, s) for m, s in found if m and s)
    )
    if lines:
        about = "Milliseconds that each monitor took at the steps it looked at."
        yield Chart("monitor-cost", "Cost of monitors", about, lines, section="Speed")


def others(run: Run) -> tuple[list[Chart], list[str]]:
    """Return a figure for each number that no other figure shows, and the names beyond the limit.

    Returns
    -------
    charts : list of Chart
    left_out : list of str
    """
    known = METRICS.keys() | {metric.name for metric in run.own}
    patterns = [_COST, *(family.pattern for family in FAMILIES if family.title or family.statistic)]
    names = [
        name
        for name, series in run.scalars.items()
        if series and name not in known and not any(re.fullmatch(p, name) for p in patterns)
    ]
    charts = [
        Chart(f"other-{number}", name, "", tuple(_lines(run, name, name, 0, 0.0)))
        for number, name in enumerate(names[:MOST_OTHERS])
    ]
    return charts, names[MOST_OTHERS:]


def grids(run: Run) -> list[Grid]:
    """Return the heat maps that a run has metrics for."""
    found = []
    for family in FAMILIES:
        pairs = [
            (match[1], series)
            for name, series in run.scalars.items()
            if series and (match := re.fullmatch(family.pattern, name))
        ]
        if pairs and family.title:
            rows, series = zip(*pairs, strict=True)
            words = family.slug, family.title, family.about
            found.append(Grid(*words, rows, series, family.scale))
    return found


def _half_life(run: Run) -> float:
    """Return the half-life of smoothing in steps, from the run's length and its lines' distance."""
    train = run.scalars.get("train/loss")
    gap = float(np.median(np.diff(train.x))) if train and len(train) > 1 else 1.0
    return max(_SHARE * run.last_step, _LEAST * gap)


def _steps(half_life: float) -> str:
    return f"{half_life:.3g}"


# --------------------------------------------------------------------------- several runs


def comparison(runs: Sequence[Run]) -> list[Chart]:
    """Return figures with a line for each run; one that no run has metrics for is left out."""
    charts: list[Chart] = []
    for name, what, smooth in (
        ("eval/loss", "Validation loss", 0),
        ("train/loss", "Training loss", 1),
    ):
        charts += _loss_over(runs, name, what, bool(smooth))
    own = {metric.name: metric for run in runs for metric in run.own}
    for figure, metrics in _figures(own.values()).items():
        # A comparison shows the first of a figure's metrics for each run, and the peak of memory.
        peak = figure.slug == "memory"
        name = "memory/peak_rss_gib" if peak else metrics[0].name
        lines = tuple(_run_lines(runs, name, figure.smooth))
        if lines:
            title = "Peak memory" if peak else figure.title
            about = "In GiB." if peak else figure.about.partition(";")[0]
            charts.append(
                Chart(figure.slug, title, about, lines, log=figure.log, section=figure.section)
            )
    return charts


def _loss_over(runs: Sequence[Run], name: str, what: str, smooth: bool) -> Iterator[Chart]:
    """Yield a loss over steps, over tokens and over hours of training."""
    slug, about = what.lower().replace(" ", "-"), _LOSS_ABOUT + (" Smoothed." if smooth else "")
    steps = tuple(_run_lines(runs, name, smooth))
    if not steps:
        return
    yield Chart(slug, what, about, steps, section="Loss", wide=True)
    for word, label, axis in (("tokens", "input tokens", _tokens), ("hours", "hours", _hours)):
        axes = [axis(run) for run in runs]
        moved = (replace(line, series=line.series.over(axes[line.color])) for line in steps)
        lines = tuple(line for line in moved if line.series)
        if lines:
            note = " Hours of training: tokens by tokens per second." if word == "hours" else ""
            yield Chart(
                f"{slug}-{word}", f"{what} over {label}", about + note, lines, section="Loss",
                x_label=label,
            )  # fmt: skip


def _run_lines(runs: Sequence[Run], name: str, smooth: bool) -> Iterator[Line]:
    for number, run in enumerate(runs):
        series = run.scalars.get(name)
        if series and smooth:
            series = series.smoothed(_half_life(run))
        if series:
            yield Line(run.label, series, number, "points" if len(series) <= 60 else "solid")


def _tokens(run: Run) -> Series:
    return run.scalars.get("train/num_input_tokens_seen", Series.of((), ()))


def _hours(run: Run) -> Series:
    """Return the hours up to each line: the tokens since the line before, by their rate."""
    tokens, rate = _tokens(run).finite, run.scalars.get("train/tokens_per_second")
    if not tokens or not rate:
        return Series.of((), ())
    good = rate.finite
    good = Series(good.x[good.y > 0], good.y[good.y > 0])
    if not good:
        return Series.of((), ())
    rates = np.interp(tokens.x, good.x, good.y)
    seconds = np.diff(tokens.y, prepend=0.0) / rates
    return Series(tokens.x, np.cumsum(np.maximum(seconds, 0.0)) / 3600)


def sections(charts: Iterable[Chart]) -> dict[str, list[Chart]]:
    """Group figures by section, in order."""
    found: dict[str, list[Chart]] = {}
    for chart in charts:
        found.setdefault(chart.section, []).append(chart)
    return found
