"""``tisslm top``: watch a run from another terminal by reading the files that it writes.

The files are read in ``tisslm.tracking.terminal.attached_run``.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tisslm.cli._terminal import pour
from tisslm.tracking.terminal.attached_run import Attached, newest_run
from tisslm.tracking.terminal.board import draw, record
from tisslm.tracking.terminal.ink import Ink, is_terminal
from tisslm.tracking.terminal.keys import Keys, keys_of
from tisslm.tracking.terminal.screen import Screen, size_of

__all__ = ["top"]

#: The default folder of runs.
RUNS = Path("runs")

#: Columns of the screen when it is written to a file.
_FILE_COLUMNS = 80


def top(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="Its directory. Left out: the newest below runs/."),
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Print one picture and end, as without a terminal."),
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, max=3600.0, help="Seconds between two looks at the files.")
    ] = 1.0,
) -> None:
    """Watch a run: its progress, loss curve, speed, memory, last sample.

    It reads metrics.jsonl and the other files of the run, and writes nothing. q or Ctrl-C ends it,
    and leaves the run alone.
    """
    attached = Attached(newest_run(RUNS) if run is None else run)
    attached.refresh()
    ink = Ink.of(sys.stdout)
    terminal = is_terminal(sys.stdout)
    if once or not terminal:
        _print(attached, ink, terminal)
        return
    screen = Screen(sys.stdout, ink)
    with suppress(KeyboardInterrupt), keys_of() as keys, screen:
        _watch(attached, ink, screen, keys, interval)
    if not screen.lost:
        _print(attached, ink, terminal)


def _watch(attached: Attached, ink: Ink, screen: Screen, keys: Keys, interval: float) -> None:
    """Redraw the screen until the user quits or the terminal is closed."""
    while not screen.lost:
        attached.refresh()
        size = screen.size
        lines = draw(attached.history, attached.status(), size.columns, size.lines, ink.glyphs)
        screen.show(lines, size)
        typed = keys.wait(interval)
        if "q" in typed.lower():
            return
        if "\f" in typed:
            screen.repaint()


def _print(attached: Attached, ink: Ink, terminal: bool) -> None:
    """Print the screen once, with styles on a terminal only."""
    columns = size_of(sys.stdout).columns if terminal else _FILE_COLUMNS
    lines = record(attached.history, attached.status(), columns, ink.glyphs)
    for line in lines:
        pour(f"{ink.paint(line) if terminal else ink.plain(line)}\n")
