"""``tisslm report``: one run, or several compared, as one HTML page.

The page is made in ``tisslm.tracking.report``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tisslm.cli._terminal import complain, say
from tisslm.system.quantities import size_text
from tisslm.tracking.report import write_report

__all__ = ["report"]


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE",
            help="Left out: report.html in the run directory, comparison.html here for several.",
        ),
    ] = None,
    figures: Annotated[
        list[str] | None,
        typer.Option(
            "--figures", metavar="svg|png",
            help="Each figure as a file, too, in plots beside the page; may be given twice.",
        ),
    ] = None,
) -> None:  # fmt: skip
    """Write one page of HTML with curves, heat maps, histograms, samples and settings of a run.

    It needs no server and no network. Several runs are compared. Works while a run trains, too.
    """
    written = write_report(runs, output, figures or ())
    for problem in written.problems:
        complain(f"warning: {problem}")
    if written.figures:
        say(f"figures: {len(written.figures)} files in {written.figures[0].parent}")
    say(f"report: {written.page} ({size_text(written.page.stat().st_size)})")
