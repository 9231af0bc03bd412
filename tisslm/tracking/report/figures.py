"""Figures as parts of the page, with their values for its script and for those who do not see.

What does not live here: drawing (``curves``, ``heatmaps``, ``histograms``), and the page around
them (``page``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tisslm.tracking.report.canvas import Box, Size
from tisslm.tracking.report.catalogue import Chart, Grid, Line
from tisslm.tracking.report.curves import draw_chart
from tisslm.tracking.report.heatmaps import Matrix, draw_grid, gather
from tisslm.tracking.report.histograms import History, draw_history
from tisslm.tracking.report.markup import Markup, table, tag
from tisslm.tracking.report.numbers import number_text
from tisslm.tracking.report.series import Series
from tisslm.tracking.report.svg import inline

__all__ = ["DESK", "PHONE", "Figures"]

PHONE = Size(380.0, 236.0)
DESK = Size(1120.0, 360.0)
_READ = 400  # points of a line that can be read off
_ROWS = 24  # rows of a table of values


@dataclass
class Figures:
    """Makes the elements of a page's figures, and collects the values that can be read off.

    Attributes
    ----------
    data : dict
        The values of each figure, for the page's script.
    """

    data: dict[str, Any] = field(default_factory=dict)

    # ------------------------------------------------------------------ lines

    def chart(self, chart: Chart) -> Markup:
        """Return a figure of lines."""
        sizes = [PHONE, DESK] if chart.wide else [PHONE]
        drawn = [draw_chart(chart, size) for size in sizes]
        label = f"{chart.title}. {' '.join(map(_in_words, chart.lines))}"
        svgs = [
            inline(d.canvas.as_svg(f"{chart.slug}-{kind}"), f"{chart.slug}-{kind}", label, kind)
            for d, kind in zip(drawn, ("phone", "desk"), strict=False)
        ]
        self.data[chart.slug] = {
            "ends": drawn[0].x,
            "boxes": [_corners(d.box) for d in drawn],
            "axis": chart.x_label,
            "reach": 0.02 * (drawn[0].x[1] - drawn[0].x[0]),
            "lines": [_readable(line) for line in chart.lines],
        }
        return _figure(
            chart.slug,
            chart.title,
            [chart.about, drawn[0].hidden, _broken(chart)],
            svgs,
            tag("output", aria_live="polite"),
            _values(chart),
            wide=chart.wide,
        )

    # ------------------------------------------------------------------ heat maps

    def grid(self, grid: Grid) -> Markup:
        """Return a heat map."""
        matrix = gather(grid.series)
        drawn = [draw_grid(grid, matrix, size.width) for size in (PHONE, DESK)]
        low, high = (
            np.nanmin(matrix.values, initial=np.inf),
            np.nanmax(matrix.values, initial=-np.inf),
        )
        label = f"{grid.title}: {len(grid.rows)} places, from {low:.3g} to {high:.3g}."
        svgs = [
            inline(d.canvas.as_svg(f"{grid.slug}-{kind}"), f"{grid.slug}-{kind}", label, kind)
            for d, kind in zip(drawn, ("phone", "desk"), strict=True)
        ]
        first, last = float(matrix.steps[0]), float(matrix.steps[-1])
        self.data[grid.slug] = {
            "ends": [first, last],
            "boxes": [_corners(d.box) for d in drawn],
            "rows": grid.rows,
            "steps": matrix.steps.tolist(),
            "values": matrix.values.tolist(),
        }
        merged = "" if matrix.looks == len(matrix.steps) else (
            f"Each column is the mean of {matrix.looks / len(matrix.steps):.3g} looks."
        )  # fmt: skip
        return _figure(
            grid.slug,
            grid.title,
            [grid.about, merged],
            svgs,
            tag("output", aria_live="polite"),
            _grid_values(grid, matrix),
            wide=True,
        )

    # ------------------------------------------------------------------ histograms

    def history(self, number: int, history: History) -> Markup:
        """Return the first and last histogram of an array, and all of them through time."""
        slug = f"histogram-{number}"
        steps = [step for step, _ in history.looks]
        label = f"Histograms of {history.name}, steps {steps[0]} to {steps[-1]}."
        svg = inline(draw_history(history).as_svg(slug), slug, label, "phone")
        return _figure(slug, history.name.removeprefix("weights/"), [], [svg], "", "")


def _figure(
    slug: str,
    title: str,
    about: list[str],
    svgs: list[Markup],
    output: str,
    values: str,
    *,
    wide: bool = False,
) -> Markup:
    words = [tag("p", sentence, class_="about") for sentence in about if sentence]
    if output:
        holder = tag(
            "div", *svgs, class_="drawing", data_figure=slug, tabindex=0, role="group",
            aria_label=f"{title}: values by the arrow keys",
        )  # fmt: skip
    else:
        holder = tag("div", *svgs, class_="drawing")
    caption = tag("figcaption", tag("h3", title), *words)
    kind = "wide" if wide else None
    return tag("figure", caption, holder, output, values, id=f"figure-{slug}", class_=kind)


def _corners(box: Box) -> list[float]:
    return [box.left, box.top, box.right, box.bottom]


def _readable(line: Line) -> dict[str, Any]:
    series = line.series.thinned(_READ)
    return {"label": line.label, "x": series.x.tolist(), "y": series.y.tolist()}


def _in_words(line: Line) -> str:
    good = line.series.finite
    if not good:
        return f"{line.label}: no finite value."
    first, last = (number_text(float(good.y[i])) for i in (0, -1))
    return f"{line.label}: from {first} to {last}, least {number_text(float(good.y.min()))}."


def _broken(chart: Chart) -> str:
    """Return a sentence on steps whose value is not finite."""
    found = sorted({int(x) for line in chart.lines for x in line.series.broken})
    if not found:
        return ""
    shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
    return f"Not finite at {len(found)} {'step' if len(found) == 1 else 'steps'} (x): {shown}."


# --------------------------------------------------------------------------- tables of values


def _values(chart: Chart) -> Markup:
    """Return some of a figure's values as a table: at most so many rows, evenly spread."""
    lines = [line for line in chart.lines if line.style != "faint"]
    steps = np.unique(np.concatenate([line.series.x for line in lines]))
    chosen = steps[np.unique(np.linspace(0, len(steps) - 1, _ROWS).round().astype(int))]
    rows = [
        [f"{x:.6g}" if x % 1 else f"{x:.0f}", *(_at(line.series, x) for line in lines)]
        for x in chosen
    ]
    head = [chart.x_label, *(line.label for line in lines)]
    return tag("details", tag("summary", "Values"), table(chart.title, head, rows))


def _at(series: Series, x: float) -> str:
    place = int(np.searchsorted(series.x, x))
    there = place < len(series) and series.x[place] == x
    return number_text(float(series.y[place]), 5) if there else ""


def _grid_values(grid: Grid, matrix: Matrix) -> Markup:
    """Return the first, middle and last column of a heat map as a table."""
    columns = sorted({0, len(matrix.steps) // 2, len(matrix.steps) - 1})
    head = ["place", *(f"step {matrix.steps[i]:.0f}" for i in columns)]
    rows = [
        [name, *("" if np.isnan(row[i]) else number_text(float(row[i])) for i in columns)]
        for name, row in zip(grid.rows, matrix.values, strict=True)
    ]
    return tag("details", tag("summary", "Values"), table(grid.title, head, rows))
