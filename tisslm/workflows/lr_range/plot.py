"""The figure of a range test: loss by learning rate, as SVG or PNG."""

from __future__ import annotations

from pathlib import Path

from tisslm.workflows.figures import check_plot, save_figure
from tisslm.workflows.lr_range.curve import Curve

__all__ = ["write_plot"]

#: Inches, and dots per inch of a PNG.
SIZE, DOTS = (7.0, 4.2), 150

#: Colours that colour-blind readers tell apart (Okabe and Ito), on white.
RAW, SMOOTH, CHOSEN, LEAST = "#b3b3b3", "#0072b2", "#d55e00", "#009e73"


def write_plot(curve: Curve, path: str | Path, *, title: str = "") -> None:
    """Draw the losses, the smoothed losses, and the rates of the least loss and the suggestion.

    Parameters
    ----------
    curve : Curve
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
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DOTS, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(curve.rates, curve.losses, color=RAW, linewidth=1, label="loss")
    axes.plot(curve.rates, curve.smoothed, color=SMOOTH, linewidth=2, label="smoothed")
    marks = ((curve.suggestion, CHOSEN, "-", "falls fastest"), (curve.least, LEAST, "--", "least"))
    for rate, colour, style, words in marks:
        if rate is not None:
            label = f"{words}: {rate:.2g}"
            axes.axvline(rate, color=colour, linestyle=style, linewidth=1.5, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss after the update (nats)")
    axes.set_title(title or "Learning-rate range test")
    axes.grid(visible=True, which="major", color="#e5e5e5")
    axes.legend()
    save_figure(figure, path)
