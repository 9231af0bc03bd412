"""The figure of a range test: loss by learning rate, as SVG or PNG."""

from __future__ import annotations

from pathlib import Path

from tisslm.errors import ConfigError
from tisslm.system.durable import replacing
from tisslm.workflows.lr_range.curve import Curve

__all__ = ["check_plot", "write_plot"]

KINDS = (".svg", ".png")

#: Inches, and dots per inch of a PNG.
SIZE, DOTS = (7.0, 4.2), 150

#: Colours that colour-blind readers tell apart (Okabe and Ito), on white.
RAW, SMOOTH, CHOSEN, LEAST = "#b3b3b3", "#0072b2", "#d55e00", "#009e73"


def check_plot(path: Path) -> None:
    """Raise an error if a figure could not be written, before anything is computed for it.

    Raises
    ------
    ConfigError
        If the suffix is unknown, the folder does not exist, or Matplotlib is not installed.
    """
    if path.suffix.lower() not in KINDS:
        raise ConfigError(
            f"plot: expected a file that ends in {' or '.join(KINDS)}, got {str(path)!r}"
        )
    if not path.parent.is_dir():
        raise ConfigError(f"plot: the folder {str(path.parent)!r} is not there; make it first")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "plot: drawing needs the package matplotlib; install it with pip install tisslm[report]"
        ) from error


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
    from matplotlib import rc_context
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
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tisslm"}):  # text stays text
        kind = path.suffix.lower().removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        with replacing(path) as file:
            figure.savefig(file, format=kind, metadata=metadata)
