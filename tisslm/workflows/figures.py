"""Figures that commands write: SVG or PNG, by the ending of their path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tisslm.errors import ConfigError
from tisslm.system.durable import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_plot", "save_figure"]

KINDS = (".svg", ".png")


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


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all; the same figure has the same bytes.

    Raises
    ------
    OSError
        If the disk refuses the file.
    """
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tisslm"}):  # text stays text
        kind = path.suffix.lower().removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        with replacing(path) as file:
            figure.savefig(file, format=kind, metadata=metadata)
