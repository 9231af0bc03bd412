"""``tisslm coord-check``: whether activations keep their size when the model is made wider.

The check and its figure are in ``tisslm.workflows.coordinates``.
"""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tisslm.cli._options import ConfigFile, Settings
from tisslm.cli._terminal import say
from tisslm.config import RunConfig
from tisslm.errors import ConfigError
from tisslm.workflows.coordinates import FLAT, Coordinates, Widths, coordinate_check, write_plot
from tisslm.workflows.figures import check_plot

__all__ = ["coord_check"]


def coord_check(
    config: ConfigFile = None,
    settings: Settings = None,
    widths: Annotated[
        str, typer.Option(metavar="C,C,...", help="Channels of the models, ascending.")
    ] = "128,256,512,1024",
    base: Annotated[
        int | None,
        typer.Option(
            "--base-width",
            metavar="C",
            min=0,
            help="The width at which muP changes nothing; 0: no muP. Left out: the run's "
            "model.mup_base_width, or the first width.",
        ),
    ] = None,
    head_dim: Annotated[
        int,
        typer.Option(
            metavar="D", min=0, help="Channels of each head. Left out: as many heads as the run's."
        ),
    ] = 0,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Updates of each model.")] = 10,
    seeds: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Models of each width, of which means are taken."),
    ] = 3,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|FILE.png", help="Draw the sizes.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Train a few steps at several widths, and compare the sizes of what each part computes.

    The learning rate is the run's, and constant. Nothing is saved but the picture.
    """
    if plot is not None:
        check_plot(plot)
    run = RunConfig.load(config, settings or ())
    channels = _widths(widths)
    own_base = run.model.get("mup_base_width") or channels[0]
    chosen = Widths(channels, own_base if base is None else base, head_dim)
    hidden, total = not sys.stderr.isatty(), steps * seeds * len(channels)
    with typer.progressbar(
        length=total, label="coord-check", file=sys.stderr, hidden=hidden
    ) as bar:
        found = coordinate_check(
            run,
            chosen,
            steps=steps,
            seeds=tuple(range(1, seeds + 1)),
            on_step=lambda: bar.update(1),
        )
    if plot is not None:
        write_plot(found, plot, title=f"Mean absolute activation by width: {run.training.name}")
    if json:
        say(json_text.dumps(found.facts(), indent=2))
        return
    for line in (*_table(found), *_words(found)):
        say(line)
    if plot is not None:
        say(f"plot: {plot}")


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            "--widths: expected numbers of channels with commas, such as 128,256, got "
            f"{text!r:.200}"
        ) from None


def _table(found: Coordinates) -> Iterator[str]:
    """Yield lines with the sizes after the last step, and ratios before the first and after it."""
    widths, first = found.widths.widths, max(len("loss"), *map(len, found.sizes))
    head = " ".join(f"{width:>9}" for width in widths)
    yield f"mean |x| after {found.steps} steps; ratios are the largest over the least"
    yield f"{'':<{first}} {head} {'ratio':>7} {'at step 0':>10}"
    for place, steps in found.sizes.items():
        sizes = " ".join(f"{size:>9.3g}" for size in steps[-1])
        yield f"{place:<{first}} {sizes} {found.ratio(place):>7.2f} {found.ratio(place, 0):>10.2f}"
    losses = " ".join(f"{loss:>9.4f}" for loss in found.losses[-1])
    yield f"{'loss':<{first}} {losses}"


def _words(found: Coordinates) -> Iterator[str]:
    base = found.widths.base
    how = f"with muP from width {base}" if base else "without muP"
    place, ratio = found.largest
    least, most = found.widths.widths[0], found.widths.widths[-1]
    verdict = "flat" if found.flat else "not flat"
    yield (
        f"{how}, activations are {verdict} from width {least} to {most}: at most a factor of "
        f"{ratio:.2f} ({place}) at the last step, where {FLAT:g} is allowed"
    )
