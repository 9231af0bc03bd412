"""Lines over steps, drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from tisslm.tracking.report.canvas import TEXT, Box, Canvas, Size, label_ticks, nice_ticks
from tisslm.tracking.report.catalogue import Chart, Line
from tisslm.tracking.report.series import Series
from tisslm.tracking.report.theme import DASHES, LIGHT, MARKERS, color_of

__all__ = ["Drawn", "draw_chart", "limits"]

_POINTS = 1200  # points of a line, when it is drawn
_ROBUST = 3.0  # spans beyond which values lie above or below the figure


@dataclass(frozen=True)
class Drawn:
    """A figure and where its axes are.

    Attributes
    ----------
    canvas : Canvas
    box : Box
    x : tuple of float
        The ends of the horizontal axis.
    hidden : str
        A sentence on values that lie beyond the figure; "" if there are none.
    """

    canvas: Canvas
    box: Box
    x: tuple[float, float]
    hidden: str = ""


def draw_chart(chart: Chart, size: Size, title: str = "") -> Drawn:
    """Draw lines; must be called within ``canvas.drawing``."""
    canvas = Canvas(size, title)
    styles = [_style(line, number) for number, line in enumerate(chart.lines)]
    if len(chart.lines) > 1:
        canvas.legend([(ln.label, s) for ln, s in zip(chart.lines, styles, strict=True)])
    axes, box = canvas.axes()
    axes.set_autoscale_on(False)  # it would compute with values that no axis holds
    low, high, hidden = limits(chart)
    for line, style in zip(chart.lines, styles, strict=True):
        _draw_line(axes, line, style, chart.log)
        _mark_broken(axes, line)
    if chart.level is not None and low <= chart.level <= high:
        axes.axhline(chart.level, color=LIGHT["muted"], linewidth=1, dashes=(4, 3))
    ends = _ends(chart)
    _finish(axes, chart, ends, (low, high), size)
    return Drawn(canvas, box, ends, hidden)


def limits(chart: Chart) -> tuple[float, float, str]:
    """Return the ends of the vertical axis, and a sentence on the values beyond them.

    They hold everything, unless single values are so far away that nothing else could be read:
    more than three times the span of the middle 98 %.
    """
    values = np.concatenate([line.series.finite.y for line in chart.lines] or [np.empty(0)])
    if chart.log:
        values = np.clip(np.log10(values[values > 0]), -200.0, 200.0)  # so that ends are numbers
    else:
        values = np.clip(values, -1e300, 1e300)
    if not len(values):
        return (0.1, 1.0, "") if chart.log else (0.0, 1.0, "")
    inner_low, inner_high = np.quantile(values, (0.01, 0.99))
    reach = _ROBUST * max(inner_high - inner_low, 1e-3 * abs(inner_high), 1e-12)
    low, high = float(values.min()), float(values.max())
    if len(values) > 50 and not chart.log:
        low, high = max(low, inner_low - reach), min(high, inner_high + reach)
    beyond = int(np.count_nonzero((values < low) | (values > high)))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0  # all alike, all zero
    ends = (low - margin, high + margin)
    sentence = (
        f"{beyond} {'value lies' if beyond == 1 else 'values lie'} beyond the figure, between "
        f"{values.min():.4g} and {values.max():.4g}."
        if beyond
        else ""
    )
    if chart.log:
        return 10.0 ** max(ends[0], -250.0), 10.0 ** min(ends[1], 250.0), sentence
    if low >= 0.0 and ends[0] < 0.0:
        ends = (0.0, ends[1])  # what cannot be negative has no room below 0
    return (*ends, sentence)


def _style(line: Line, number: int) -> Line2D:
    """Return a line's looks, without its points."""
    style = Line2D([], [], color=color_of(line.color, faint=line.style == "faint"))
    style.set_linewidth({"faint": 0.8}.get(line.style, 1.6))
    style.set_solid_capstyle("butt")
    if line.style != "faint" and DASHES[line.color % len(DASHES)]:
        style.set_dashes(DASHES[line.color % len(DASHES)])
    if line.style == "points":
        style.set_marker(MARKERS[line.color % len(MARKERS)])
        style.set_markersize(3.6)
        style.set_markeredgewidth(0)
    return style


def _draw_line(axes: Any, line: Line, style: Line2D, log: bool) -> None:
    series = line.series
    if log:
        series = Series(series.x, np.where(series.y > 0, series.y, np.nan))
    series = series.thinned(_POINTS)
    y = np.where(np.isfinite(series.y), series.y, np.nan)  # a gap
    drawn = Line2D(series.x, y)
    drawn.update_from(style)
    axes.add_line(drawn)


def _mark_broken(axes: Any, line: Line) -> None:
    """Mark steps with NaN or an infinity by a cross at the lower end."""
    broken = Series(line.series.broken, line.series.broken).thinned(200).x
    if len(broken):
        axes.plot(
            broken, np.zeros(len(broken)), "x", color=LIGHT["c4"], markersize=5,
            transform=axes.get_xaxis_transform(), clip_on=False,
        )  # fmt: skip


def _ends(chart: Chart) -> tuple[float, float]:
    first = min((float(line.series.x[0]) for line in chart.lines), default=0.0)
    last = max((float(line.series.x[-1]) for line in chart.lines), default=1.0)
    room = 0.01 * (last - first) or max(0.5, 0.01 * abs(last))
    return first - room, last + room


def _finish(
    axes: Any, chart: Chart, ends: tuple[float, float], heights: tuple[float, float], size: Size
) -> None:
    axes.set_xlim(*ends)
    axes.set_ylim(*heights)
    if chart.log:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(nice_ticks(int(size.width // 90)))
    axes.set_xlabel(chart.x_label, fontsize=TEXT, color=LIGHT["muted"], labelpad=2)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(_locator(chart.log, *heights))
    label_ticks(axes.xaxis, *ends)
    label_ticks(axes.yaxis, *heights)


def _locator(log: bool, low: float, high: float) -> Any:
    """Return where the ticks of the vertical axis are: four to eight of them."""
    decades = math.log10(high / low) if log else 0.0
    if decades > 2:
        return LogLocator(numticks=6)
    return LogLocator(subs=(1.0, 2.0, 5.0), numticks=8) if decades > 0.8 else nice_ticks(6)
