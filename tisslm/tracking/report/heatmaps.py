"""A value for each place and step, drawn as colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from tisslm.tracking.report.canvas import TEXT, Box, Canvas, Size, label_ticks, nice_ticks
from tisslm.tracking.report.catalogue import Grid
from tisslm.tracking.report.series import Series
from tisslm.tracking.report.theme import LIGHT

__all__ = ["DrawnGrid", "Matrix", "draw_grid", "gather"]

_CELLS = 6000  # cells of a heat map, however many values it was made of
_COLUMNS = (24, 240)  # at least, at most
_ROW = (3.0, 15.0)  # CSS pixels of a row, at least and at most
_USUAL, _TALLEST = 640.0, 900.0  # height of all rows as a rule, of a picture at most
_CHARACTER = 5.4
_BAR = 62.0  # width of the colour bar and its labels


@dataclass(frozen=True)
class Matrix:
    """Values of places at steps.

    Attributes
    ----------
    steps : ndarray of float64 of shape (n,)
        Ascending; the last of each column.
    values : ndarray of float64 of shape (rows, n)
        The mean of a column's looks; NaN where there is none.
    looks : int
        Steps at which anything was measured.
    """

    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    looks: int


@dataclass(frozen=True)
class DrawnGrid:
    """A heat map and where its cells are."""

    canvas: Canvas
    box: Box


def gather(series: Sequence[Series]) -> Matrix:
    """Put series with steps of their own into one matrix of at most about 6000 cells."""
    steps = np.unique(np.concatenate([s.x for s in series]))
    values = np.full((len(series), len(steps)), np.nan)
    for row, s in zip(values, series, strict=True):
        row[np.searchsorted(steps, s.x)] = s.y
    values[~np.isfinite(values)] = np.nan
    low, high = _COLUMNS
    most = min(high, max(low, _CELLS // len(series)))
    if len(steps) <= most:
        return Matrix(steps, values, len(steps))
    edges = np.linspace(0, len(steps), most + 1).astype(int)
    sums = np.add.reduceat(np.nan_to_num(values), edges[:-1], axis=1)
    counts = np.add.reduceat(np.isfinite(values).astype(float), edges[:-1], axis=1)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return Matrix(steps[edges[1:] - 1], means, len(steps))


def draw_grid(grid: Grid, matrix: Matrix, width: float, title: str = "") -> DrawnGrid:
    """Draw a heat map; must be called within ``canvas.drawing``."""
    rows = len(grid.rows)
    height = min(_TALLEST, max(_ROW[0], min(_ROW[1], _USUAL / rows)) * rows + 48.0)
    canvas = Canvas(Size(width, max(height, 110.0) + (20.0 if title else 0.0)), title)
    labels = _labels(grid.rows, width)
    left = 12.0 + _CHARACTER * max(map(len, labels))
    axes, box = canvas.axes(left=left, right=_BAR, bottom=34.0)
    image = _paint(axes, grid, matrix)
    _label_rows(axes, labels, box, canvas.size)
    axes.set_xlabel("step", fontsize=TEXT, color=LIGHT["muted"], labelpad=2)
    axes.xaxis.set_major_locator(nice_ticks(int(width // 110)))
    label_ticks(axes.xaxis, *axes.get_xlim())
    _color_bar(canvas, image, box, grid.scale)
    return DrawnGrid(canvas, box)


def _paint(axes: Any, grid: Grid, matrix: Matrix) -> Any:
    """Show the matrix on an even axis of steps: each column has the look that is nearest."""
    steps, rows = matrix.steps, len(grid.rows)
    first, last = float(steps[0]), float(steps[-1])
    if first == last:
        first, last = first - 0.5, last + 0.5
    even = np.linspace(first, last, _even_columns(steps))
    nearest = np.abs(even[:, None] - steps[None, :]).argmin(axis=1)
    name, norm = _scale(grid.scale, matrix.values)
    colors = colormaps[name].with_extremes(bad=LIGHT["rule"])
    axes.grid(visible=False)
    cells = np.ma.masked_invalid(matrix.values[:, nearest])
    if grid.scale == "log":
        cells = np.ma.masked_less_equal(cells, 0.0)
    extent = (first, last, rows - 0.5, -0.5)
    return axes.imshow(
        cells, cmap=colors, norm=norm, aspect="auto", interpolation="none", extent=extent
    )


def _even_columns(steps: NDArray[np.float64]) -> int:
    """Return how many even columns tell all steps apart, within the limit."""
    if len(steps) < 2:
        return 1
    closest = float(np.diff(steps).min())
    return int(min(_COLUMNS[1], round((steps[-1] - steps[0]) / closest) + 1))


def _scale(scale: str, values: NDArray[np.float64]) -> tuple[str, Normalize]:
    """Return a colour map and how values get to it."""
    good = values[np.isfinite(values)]
    if scale == "share":
        return "viridis", Normalize(0.0, 1.0)
    if scale == "signed":
        reach = float(np.abs(good).max(initial=0.0)) or 1.0
        return "coolwarm", Normalize(-reach, reach)
    if scale == "log":
        good = good[good > 0]
        low, high = (good.min(), good.max()) if len(good) else (0.1, 1.0)
        return "viridis", LogNorm(float(low), float(high if high > low else low * 1.01))
    low, high = (good.min(), good.max()) if len(good) else (0.0, 1.0)
    return "viridis", Normalize(min(0.0, float(low)), float(high if high > low else low + 1.0))


def _labels(rows: Sequence[str], width: float) -> list[str]:
    """Return short names of places: without "blocks.", and with their end where room is little."""
    short = [row.removeprefix("blocks.") for row in rows]
    most = max(12, int(0.42 * width / _CHARACTER))
    return [name if len(name) <= most else f"...{name[3 - most :]}" for name in short]


def _label_rows(axes: Any, labels: Sequence[str], box: Box, size: Size) -> None:
    """Label every row that has room; every second, third, ... otherwise."""
    room = (box.bottom - box.top) * size.height / len(labels)
    every = max(1, int(np.ceil((TEXT + 1.0) / room)))
    shown = range(0, len(labels), every)
    axes.set_yticks(list(shown), labels=[labels[i] for i in shown])
    axes.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _color_bar(canvas: Canvas, image: Any, box: Box, scale: str) -> None:
    width = canvas.size.width
    place = (box.right + 8.0 / width, 1 - box.bottom, 8.0 / width, box.bottom - box.top)
    bar_axes = canvas.figure.add_axes(place)
    few = LogLocator(numticks=4) if scale == "log" else nice_ticks(3)
    bar: Any = canvas.figure.colorbar(image, cax=bar_axes, ticks=few)
    bar.solids.set_rasterized(True)  # one picture instead of 256 shapes
    bar.outline.set_visible(False)
    bar_axes.minorticks_off()
    bar_axes.tick_params(colors=LIGHT["muted"], labelsize=TEXT - 1, length=2)
    low, high = bar_axes.get_ylim()
    ticks = [t for t in bar_axes.get_yticks() if low <= t <= high]
    if len(ticks) < 2:
        bar_axes.set_yticks([low, high])
    label_ticks(bar_axes.yaxis, low, high)
