"""How the values of a parameter are distributed, and how that changed.

What does not live here: counting the values (``contracts.metric_values``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tisslm.contracts.metric_values import Histogram
from tisslm.tracking.report.canvas import TEXT, Canvas, Size, label_ticks, nice_ticks
from tisslm.tracking.report.series import Series
from tisslm.tracking.report.theme import LIGHT, color_of

__all__ = ["History", "draw_history", "moved"]

_BINS = 40  # bins of the map over time
_COLUMNS = 48
Looks = Sequence[tuple[int, Histogram]]


@dataclass(frozen=True)
class History:
    """The histograms of one array.

    Attributes
    ----------
    name : str
        The name of the metric, such as "weights/head.weight".
    looks : sequence of (step, Histogram)
        The steps and their histograms, at least one.
    quantiles : tuple of (label, Series)
        Lines over the map, where the run measured them.
    """

    name: str
    looks: Looks
    quantiles: tuple[tuple[str, Series], ...] = ()


def moved(looks: Looks) -> float:
    """Return how far the values went from the first look to the last, in spreads of the first.

    It is the area between both cumulative distributions (the Wasserstein distance of order 1)
    over the standard deviation at the first look.

    References
    ----------
    L. N. Vaserstein, "Markov processes over denumerable products of spaces", 1969.
    """
    first, last = looks[0][1], looks[-1][1]
    edges = np.union1d(first.edges, last.edges)
    apart = np.abs(_cumulative(first, edges) - _cumulative(last, edges))
    area = float(np.sum(0.5 * (apart[1:] + apart[:-1]) * np.diff(edges)))
    spread = _spread(first)
    return area / spread if spread > 0 else area


def _spread(found: Histogram) -> float:
    """Return the standard deviation of the values that were counted."""
    n = max(found.count, 1)
    mean = found.total / n
    variance = found.squares / n - mean * mean
    return math.sqrt(variance) if math.isfinite(variance) and variance > 0 else 0.0


def _cumulative(found: Histogram, at: NDArray[np.float64]) -> NDArray[np.float64]:
    share = np.concatenate([[0.0], np.cumsum(found.counts)]) / max(found.count, 1)
    return np.interp(at, found.edges, share)


def draw_history(history: History, title: str = "") -> Canvas:
    """Draw the first and last histogram, and beside them all of them through time.

    Must be called within ``canvas.drawing``.
    """
    canvas = Canvas(Size(380.0, 170.0 + (20.0 if title else 0.0)), title)
    first, last = history.looks[0], history.looks[-1]
    now = Line2D([], [], color=color_of(0), linewidth=1.6)
    then = Line2D([], [], color=color_of(1), linewidth=1.2)
    entries = [(f"step {last[0]}", now)]
    if first[0] != last[0]:
        entries.insert(0, (f"step {first[0]}", then))
    canvas.legend(entries)
    axes, _ = canvas.axes(left=14.0, right=205.0 if len(entries) > 1 else 10.0)
    axes.stairs(_density(last[1]), last[1].edges, fill=True, color=color_of(0), alpha=0.25)
    axes.stairs(_density(last[1]), last[1].edges, color=color_of(0), linewidth=1.4)
    if len(entries) > 1:
        axes.stairs(_density(first[1]), first[1].edges, color=color_of(1), linewidth=1.2)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(bottom=0.0)
    axes.xaxis.set_major_locator(nice_ticks(3))
    label_ticks(axes.xaxis, *axes.get_xlim())
    axes.set_xlabel("value", fontsize=TEXT, color=LIGHT["muted"], labelpad=2)
    if len(entries) > 1:
        _draw_map(canvas, history)
    return canvas


def _density(found: Histogram) -> NDArray[np.float64]:
    """Return the share of the values by width of bin."""
    shares, widths = found.counts / max(found.count, 1), np.diff(found.edges)
    return np.divide(shares, widths, out=np.zeros_like(shares), where=widths > 0)


def _draw_map(canvas: Canvas, history: History) -> None:
    """Draw values up, steps across, and shares as colours."""
    axes, _ = canvas.axes(left=228.0, right=10.0)
    low = min(float(found.edges[0]) for _, found in history.looks)
    high = max(float(found.edges[-1]) for _, found in history.looks)
    bins = np.linspace(low, high, _BINS + 1)
    steps = np.array([step for step, _ in history.looks], np.float64)
    shares = np.stack([np.diff(_cumulative(found, bins)) for _, found in history.looks], axis=1)
    even = np.linspace(steps[0], steps[-1], _COLUMNS)
    nearest = np.abs(even[:, None] - steps[None, :]).argmin(axis=1)
    image = np.sqrt(shares[:, nearest])  # the tails are seen, too
    extent = (steps[0], steps[-1], low, high)
    axes.grid(visible=False)
    axes.imshow(
        image, cmap=colormaps["viridis"], aspect="auto", origin="lower", interpolation="none",
        extent=extent,
    )  # fmt: skip
    for _, series in history.quantiles:
        line = series.thinned(100)
        axes.plot(line.x, line.y, color="#ffffff", linewidth=0.9, alpha=0.8)
    axes.set_xlim(steps[0], steps[-1])
    axes.set_ylim(low, high)
    axes.xaxis.set_major_locator(nice_ticks(2))
    axes.yaxis.set_major_locator(nice_ticks(4))
    label_ticks(axes.xaxis, *axes.get_xlim())
    label_ticks(axes.yaxis, low, high)
    axes.set_xlabel("step", fontsize=TEXT, color=LIGHT["muted"], labelpad=2)
