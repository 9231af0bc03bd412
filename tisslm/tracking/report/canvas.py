"""The drawing surface: matplotlib's figures without its global state.

Sizes are in CSS pixels, 72 to matplotlib's inch, so that an SVG's numbers are those of the page.

References
----------
J. D. Hunter, "Matplotlib: A 2D graphics environment", 2007.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tisslm.tracking.report.numbers import tick_texts
from tisslm.tracking.report.theme import LIGHT

__all__ = ["MAKER", "TEXT", "Box", "Canvas", "Size", "drawing", "label_ticks", "nice_ticks"]

#: What figures in files of their own say of who made them.
MAKER = "TissLM"

_INCH = 72.0
_PNG_SCALE = 2.5  # pixels of a PNG to a CSS pixel
_CHARACTER = 5.6  # CSS pixels of a character of a legend, on the average
_LEGEND_ROW = 15.0
TEXT = 10.0

#: Text stays text, and is never read as a formula; the same drawing has the same bytes.
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "font.size": TEXT,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Size:
    """Width and height in CSS pixels."""

    width: float
    height: float


@dataclass(frozen=True)
class Box:
    """Where the axes are in a drawing, as shares of width and height from the upper left."""

    left: float
    top: float
    right: float
    bottom: float


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with our settings, whatever those of the process are, and leave these as they were.

    A character that the font lacks is drawn by the browser's; nothing needs to be said.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


@dataclass
class Canvas:
    """One figure.

    Parameters
    ----------
    size : Size
    title : str
        Drawn above; "" where the page says it.
    """

    size: Size
    title: str = ""
    figure: Figure = field(init=False)
    _used: float = field(init=False, default=4.0)

    def __post_init__(self) -> None:
        width, height = self.size.width / _INCH, self.size.height / _INCH
        self.figure = Figure(figsize=(width, height), dpi=_INCH, facecolor="none")
        if self.title:
            self._write(8.0, self._used, self.title, size=TEXT + 2, color=LIGHT["ink"])
            self._used += 20.0

    def legend(self, entries: Sequence[tuple[str, Line2D]]) -> None:
        """Write labels with a piece of their line, in rows below what is there already."""
        x, row = 8.0, self._used
        for label, line in entries:
            width = 30.0 + _CHARACTER * len(label)
            if x > 8.0 and x + width > self.size.width:
                x, row = 8.0, row + _LEGEND_ROW
            self._sample(line, x, row + 0.45 * _LEGEND_ROW)
            self._write(x + 22.0, row, label, size=TEXT, color=LIGHT["ink"])
            x += width
        self._used = row + _LEGEND_ROW + 2.0

    def _sample(self, line: Line2D, x: float, y: float) -> None:
        across, up = self.size.width, self.size.height
        sample = Line2D([x / across, (x + 17.0) / across], [1 - y / up] * 2)
        sample.update_from(line)
        sample.set_transform(self.figure.transFigure)
        sample.set_clip_path(None)
        sample.set_markevery(None)
        self.figure.add_artist(sample)

    def _write(self, x: float, y: float, text: str, size: float, color: str) -> None:
        place = x / self.size.width, 1 - y / self.size.height
        self.figure.text(*place, text, va="top", ha="left", fontsize=size, color=color)

    def axes(
        self, left: float = 46.0, right: float = 10.0, bottom: float = 34.0, below: float = 0.0
    ) -> tuple[Any, Box]:
        """Return axes with these margins, below the title and the legend, and where they are.

        Parameters
        ----------
        left, right, bottom : float
            Margins; ``right`` may leave room for a colour bar.
        below : float
            Room above the axes, beside title and legend.
        """
        across, up, top = self.size.width, self.size.height, self._used + below + 4.0
        box = Box(left / across, top / up, 1 - right / across, 1 - bottom / up)
        area = (box.left, 1 - box.bottom, box.right - box.left, box.bottom - box.top)
        axes = self.figure.add_axes(area)
        _style_axes(axes)
        return axes, box

    def as_svg(self, salt: str) -> str:
        """Return the figure as the text of an SVG document; ids in it depend on the salt."""
        FigureCanvasSVG(self.figure)
        matplotlib.rcParams["svg.hashsalt"] = salt
        buffer = io.BytesIO()
        said = {"Creator": MAKER, **dict.fromkeys(("Date", "Format", "Type"))}
        self.figure.savefig(buffer, format="svg", metadata=said)
        return buffer.getvalue().decode()

    def as_png(self) -> bytes:
        """Return the figure as a PNG on white."""
        FigureCanvasAgg(self.figure)
        buffer = io.BytesIO()
        said = {"Software": MAKER}
        dpi = _INCH * _PNG_SCALE
        self.figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata=said)
        return buffer.getvalue()


def _style_axes(axes: Any) -> None:
    """Give axes the theme's colours and thin lines."""
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LIGHT["muted"])
        spine.set_linewidth(0.8)
    axes.tick_params(colors=LIGHT["muted"], labelsize=TEXT, width=0.8, length=3, which="major")
    axes.tick_params(which="minor", length=0)
    axes.grid(visible=True, color=LIGHT["rule"], linewidth=0.7)
    axes.set_axisbelow(True)


def nice_ticks(most: int) -> MaxNLocator:
    """Return ticks at 1, 2, 2.5 or 5 times a power of ten, about so many."""
    return MaxNLocator(max(2, most), steps=(1, 2, 2.5, 5, 10), min_n_ticks=2)


def label_ticks(axis: Any, low: float, high: float) -> None:
    """Put short labels on the ticks between two ends, with the digits that they need."""
    ticks = [float(tick) for tick in axis.get_ticklocs() if low <= tick <= high]
    axis.set_ticks(ticks, labels=tick_texts(ticks))
