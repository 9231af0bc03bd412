"""``tisslm lr-find``: a learning-rate range test of a run; nothing that it trains is kept.

The test and its figure are in ``tisslm.workflows.lr_range``.
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
from tisslm.workflows.build.trainer import build_trainer
from tisslm.workflows.lr_range import Curve, Rates, check_plot, sweep, write_plot

__all__ = ["lr_find"]

#: Lines of the table, and characters of its longest bar.
LINES, BAR = 25, 40


def lr_find(
    config: ConfigFile = None,
    settings: Settings = None,
    lowest: Annotated[float, typer.Option("--min-lr", metavar="RATE")] = 1e-6,
    highest: Annotated[float, typer.Option("--max-lr", metavar="RATE")] = 1.0,
    steps: Annotated[int, typer.Option(metavar="N", help="Steps, one for each rate.")] = 100,
    stop_factor: Annotated[
        float,
        typer.Option(metavar="X", help="End where the mean loss is X times its least."),
    ] = 2.0,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|FILE.png", help="Draw the curve.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Train a few steps at learning rates that rise, and show where the loss falls.

    The run itself is not begun: nothing is saved, and only the picture is written. Settings as for
    train; with training.resume, the test begins at that checkpoint.
    """
    rates = Rates(lowest, highest, steps, stop_factor)
    if plot is not None:
        check_plot(plot)
    trainer = build_trainer(RunConfig.load(config, settings or ()))
    hidden = not sys.stderr.isatty()
    with typer.progressbar(length=steps, label="range test", file=sys.stderr, hidden=hidden) as bar:
        curve = sweep(trainer, rates, on_step=lambda: bar.update(1))
    if plot is not None:
        write_plot(curve, plot, title=f"Learning-rate range test: {trainer.config.name}")
    if json:
        say(json_text.dumps(curve.facts(), indent=2))
        return
    for line in (*_table(curve), *_words(curve)):
        say(line)
    if plot is not None:
        say(f"plot: {plot}")


def _table(curve: Curve) -> Iterator[str]:
    """Yield lines with rate, loss, and a bar for the smoothed loss."""
    if not curve.rates:
        return
    low, high = min(curve.smoothed), max(curve.smoothed)
    yield f"{'learning rate':>13} {'loss':>9} {'smoothed':>9}"
    every = -(-len(curve.rates) // LINES)
    for number in range(0, len(curve.rates), every):
        smooth = curve.smoothed[number]
        share = (smooth - low) / (high - low) if high > low else 0.0
        bar = "#" * (1 + round((BAR - 1) * share))
        yield f"{curve.rates[number]:>13.2e} {curve.losses[number]:>9.4f} {smooth:>9.4f} {bar}"


def _words(curve: Curve) -> Iterator[str]:
    if curve.diverged:
        end = f"the loss ran away after a rate of {curve.rates[-1]:.2g}" if curve.rates else ""
        yield end or "the loss ran away at the lowest rate; lower --min-lr"
    if curve.suggestion is None:
        yield (
            "no suggestion: the loss does not fall, or too few rates came before it rose; take "
            "more steps, or another range"
        )
        return
    yield f"the loss is least at {curve.least:.2g} and falls fastest at {curve.suggestion:.2g}"
    yield f"suggestion: --set training.learning_rate={curve.suggestion:.2g}"
