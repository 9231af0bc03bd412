"""The figure of a coordinate check: the size of each place by width, a line for each step."""

from __future__ import annotations

import math
from pathlib import Path

from tisslm.workflows.coordinates.table import Coordinates
from tisslm.workflows.figures import check_plot, save_figure

__all__ = ["write_plot"]

#: Panels side by side, inches of each, and dots per inch of a PNG.
COLUMNS, SIZE, DOTS = 4, (2.6, 2.0), 150


def write_plot(found: Coordinates, path: str | Path, *, title: str = "") -> None:
    """Draw the sizes of each place.

    Parameters
    ----------
    found : Coordinates
    path : str or Path
        Its suffix is the format: .svg or .png.
    title : str

    Raises
    ------
    ConfigError
        As ``check_plot``.
    OSError
        If the disk refuses the file.
    """
    path = Path(path)
    check_plot(path)
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    places, shades = list(found.sizes), colormaps["viridis"]
    rows = math.ceil(len(places) / COLUMNS)
    figure = Figure(
        figsize=(COLUMNS * SIZE[0], rows * SIZE[1] + 0.6), dpi=DOTS, layout="constrained"
    )
    for number, place in enumerate(places):
        axes = figure.add_subplot(rows, COLUMNS, number + 1)
        for step, sizes in enumerate(found.sizes[place]):
            shade = shades(0.9 * step / max(1, found.steps))
            label = f"step {step}" if step in (0, found.steps) and number == 0 else None
            axes.plot(found.widths.widths, sizes, color=shade, linewidth=1.2, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_title(place, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(visible=True, which="major", color="#e5e5e5")
    figure.suptitle(title or "Mean absolute activation by width")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    save_figure(figure, path)
