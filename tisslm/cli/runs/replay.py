"""``tisslm replay``: make a step of a run again, and print statistics of its activations.

Steps are made again in ``tisslm.workflows.replay``.
"""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from tisslm.checkpoint.run_directory import metrics_file
from tisslm.cli._terminal import say
from tisslm.errors import ConfigError
from tisslm.workflows.replay import (
    Replayed,
    ReplayedStep,
    Statistics,
    find_start,
    incident_files,
    read_incident,
    trainer_of,
)
from tisslm.workflows.replay import replay as replay_run
from tisslm.workflows.replay.building import checkpoint_folder, run_config

__all__ = ["replay"]


def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False)],
    step: Annotated[
        int | None, typer.Option("--step", metavar="N", help="Number of the update, from 1.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="A step that was not applied: RUN/nonfinite-step-N.json or spike-step-N.json.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Make a step of a run again, bit for bit, from the nearest checkpoint before it.

    Each step on the way is compared with metrics.jsonl. If there is a checkpoint of the last step,
    the parameters are compared with it. For a step that was not finite, the layer, operation and
    element that failed are shown. Without --step and --file, it is the last step that was not
    applied. Nothing is written, and the run may still be training.

    The exit code is 1 if anything differs from the record of the run.
    """
    config = run_config(run)
    if step is not None and file is not None:
        raise ConfigError("replay: expected --step or --file, got both; keep one of the two")
    if step is None and file is None:
        file = _last_incident(run)
    incident = None if file is None else read_incident(file)
    number = step if incident is None else incident.step
    position = None if incident is None else incident.position
    start = find_start(checkpoint_folder(config, run), int(number or 0), position)
    trainer = trainer_of(config, run, start)
    place = "the start of the run" if start is None else str(start.path)
    if not json:
        say(f"{run}: making step {number} again, from {place}")
    done = replay_run(
        trainer,
        step,
        file=file,
        run=run,
        metrics=metrics_file(run, config.resolved()),
        on_step=None if json else _print_step,
    )
    if json:
        say(dumps(done.as_json(), indent=2))
    else:
        _print(done)
    if not done.is_same:
        raise typer.Exit(1)


def _last_incident(run: Path) -> Path:
    files = incident_files(run)
    if not files:
        raise ConfigError(
            f"replay: {run}: every step was applied; choose the step to make again with --step"
        )
    return files[-1]


_VERDICTS = {
    None: "not on record",
    True: "as on record, bit for bit",
    False: "DIFFERS",
}


def _print_step(step: ReplayedStep) -> None:
    """Print a line about a step, and whether it equals the run's."""
    kind = "" if step.applied else ", not applied"
    verdict = _VERDICTS[step.is_same]
    if step.is_same is False:
        then = (step.recorded_loss, step.recorded_grad_norm)
        numbers = ", ".join("not recorded" if x is None else repr(x) for x in then)
        now = f"{step.loss!r}, {step.grad_norm!r}"
        verdict = f"DIFFERS: loss and norm are {now}, and on record {numbers}"
    largest = max(step.statistics, key=lambda row: row.absmax, default=None)
    most = "" if largest is None else f" | largest {largest.absmax:.3g} in {largest.place}"
    say(
        f"step {step.step}{kind} | loss {step.loss:.6g} | grad_norm {step.grad_norm:.6g} | "
        f"lr {step.learning_rate:.3g}{most} | {verdict}"
    )


def _print_statistics(rows: list[Statistics]) -> None:
    """Print the statistics, in lines that are never cut to the terminal's width."""
    width = max(len(f"{row.place} {row.array}") for row in rows)
    for number, row in enumerate(rows):
        if number == 0 or row.direction != rows[number - 1].direction:
            heading = f"{'mean':>10} {'std':>10} {'largest':>10} {'zeros':>8}"
            say(f"\n{row.direction:{width}} {heading}")
        bad = f" {row.n_non_finite} of {row.n} not finite" if row.n_non_finite else ""
        say(
            f"{row.place + ' ' + row.array:{width}} {row.mean:10.3g} {row.std:10.3g} "
            f"{row.absmax:10.3g} {row.zeros:8.2%}{bad}"
        )


def _print(done: Replayed) -> None:
    """Print the last step's statistics, the finding, and whether the parameters are equal."""
    rows = done.steps[-1].statistics if done.steps else []
    if rows:
        _print_statistics(rows)
    if done.finding is not None:
        say(f"\n{done.finding.words}")
    if done.fault_is_same is not None:
        say("as the run found it" if done.fault_is_same else _OTHER)
    if done.checkpoint:
        kept = ", ".join(done.differences[:3])
        more = f" and {len(done.differences) - 3} more" if len(done.differences) > 3 else ""
        same = "parameters and optimizer state are the same, bit for bit"
        say(f"\n{done.checkpoint}: {f'DIFFERS in {kept}{more}' if kept else same}")


_OTHER = (
    "NOT what the run found: what it met was not made by its own steps, but by the hardware, or by "
    "something else that wrote to its memory"
)
