"""``tisslm launch``: ``tisslm train`` on several ranks of this machine, started again after faults.

The work is done in ``tisslm.workflows.launch``.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tisslm.cli._options import ConfigFile, Settings
from tisslm.cli._terminal import complain
from tisslm.workflows.launch import launch as start

__all__ = ["launch"]


def launch(
    config: ConfigFile = None,
    ranks: Annotated[
        int | None,
        typer.Option("-n", "--ranks", metavar="N", help="Left out: one for each NUMA node."),
    ] = None,
    settings: Settings = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="auto|PATH", help="As for train."),
    ] = None,
    max_restarts: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Go on from the last checkpoint after a fault, so many times.",
        ),
    ] = 0,
) -> None:
    """Train on several ranks of this machine, by the MPI that is installed.

    A signal that ends a run ends this one, too: it is saved, and the exit code is 75. A second
    Ctrl-C stops at once. Exit codes are those of train; of a rank that was killed, 128 and the
    number of the signal.
    """
    code = start(
        config,
        settings or (),
        ranks=ranks,
        resume=resume,
        max_restarts=max_restarts,
        announce=lambda line: complain(f"launch: {line}"),
    )
    raise typer.Exit(code)
