"""``tisslm train``: build a run from a configuration and train it; at the end, print a sample.

The run is built in ``tisslm.workflows.build.trainer``, the loop is in ``tisslm.training.loop``.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import replace
from typing import Annotated

import typer

from tisslm import checkpoint, ops
from tisslm.cli._options import ConfigFile, Settings
from tisslm.cli._terminal import say, tell
from tisslm.config import RunConfig
from tisslm.contracts import Encoder, Model
from tisslm.models.generation import Sampling, sample
from tisslm.system.launched import Note, leave_note
from tisslm.system.time_limits import time_limits
from tisslm.training.interruption import EXIT_CODE, Leave, leave_at_once
from tisslm.training.trainer import Trainer
from tisslm.workflows.build.trainer import build_trainer
from tisslm.workflows.dry_run import dry_run as try_run

__all__ = ["train"]

SAMPLE_TOKENS = 250
SAMPLING = Sampling(temperature=0.8, top_k=40)

#: Why ``resume = "auto"`` begins anew where no directory is named.
NO_OTHER_HAS_A = "no run of this name and configuration has a"


def train(
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="auto|PATH",
            help="Go on from a checkpoint or a run; auto: the newest run of this configuration.",
        ),
    ] = None,
    overfit_batches: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The windows of N steps, over and over: the loss must vanish.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Try two steps and an evaluation, and write nothing."),
    ] = False,
    profile: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Record N steps kernel by kernel: trace.json in the run, and a table at the end.",
        ),
    ] = 0,
) -> None:
    """Train a model on text or tokens.

    Without a configuration, a small character model learns the language reference that every
    Python carries, in a few minutes. Settings: default < file < environment < command line.

    The exit code is 0 when the run is complete, and 75 when a signal or a time limit ended it:
    it is saved, and the same command with --resume auto goes on.
    """
    overrides = list(settings or ())
    given = {"resume": resume, "overfit_batches": overfit_batches, "profile_steps": profile or None}
    for key, value in given.items():
        overrides += [] if value is None else [f"training.{key}={value}"]
    try:
        with leave_at_once():
            trainer = build_trainer(RunConfig.load(config, overrides))
            _announce(trainer)
        note = Note(str(trainer.run.path), str(trainer.run.checkpoints))
        leave_note(note)
    except Leave as leave:
        tell(f"{leave.reason}: stopped before the first step; the same command starts again")
        raise typer.Exit(EXIT_CODE) from None
    if dry_run:
        _dry_run(trainer)
        return
    _train(trainer)
    leave_note(replace(note, complete=True))
    with suppress(Leave), leave_at_once():  # the run is done: a signal has only this to end
        _show_sample(trainer)
    for line in _outcome(trainer):
        say(line)
    has_best = trainer.config.restore_best and trainer.stopping.summary() is not None
    path = trainer.run.path / "best" if has_best else trainer.run.path
    say(f"run: {trainer.run.path}")
    say(_use(trainer, shlex.quote(str(path))))


def _use(trainer: Trainer, path: str) -> str:
    """Say what the trained model can be used for."""
    if isinstance(trainer.model, Encoder):
        return f"vectors of it: tisslm embed {path} --input FILE --output X.npy"
    return f"more of it: tisslm generate {path}"


def _train(trainer: Trainer) -> None:
    """Train; a run that was interrupted exits with the code that asks for another start."""
    trainer.leaving.announce = lambda line: tell(f"{line}; a second signal stops at once")
    try:
        trainer.train()
    except KeyboardInterrupt:
        tell(_interruption(trainer))
        raise typer.Exit(130) from None
    finally:
        _show_profile(trainer)
    if trainer.stopped:
        tell(f"saved at step {trainer.current_step}; the same command with --resume auto goes on")
        raise typer.Exit(EXIT_CODE)


def _outcome(trainer: Trainer) -> list[str]:
    """Say why the run ended early, its best metric, and the loss of an overfitting test."""
    lines, history, best = [], trainer.loss_history, trainer.stopping.summary()
    if trainer.stopping.ended:
        lines.append(f"stopped early: {trainer.stopping.ended}")
    if trainer.config.restore_best and best is not None:
        lines.append(
            f"best: {best['metric']} {best['value']:.6g} at step {best['step']}, the step whose "
            "parameters are used from here on"
        )
    if trainer.config.overfit_batches and trainer.dataset is not None and history:
        lines.append(
            f"loss of the same {len(trainer.dataset)} windows: {history[0]:.4f} -> "
            f"{history[-1]:.4f}"
        )
    return lines


def _dry_run(trainer: Trainer) -> None:
    """Do a dry run, and print what it has shown."""
    for line in try_run(trainer).lines():
        say(line)
    say("dry run: nothing was written")


def _announce(trainer: Trainer) -> None:
    """Print in a few lines what will be trained, where it goes, and how long it may take."""
    named = ((trainer.dataset, "training"), (trainer.val_dataset, "validation"))
    data = [f"{len(dataset)} {name} windows" for dataset, name in named if dataset is not None]
    threads, precision = ops.thread_count(), trainer.passes.precision
    say(
        f"{' and '.join(data)} of {trainer.model.seq_len} tokens, vocabulary "
        f"{trainer.model.vocab_size}, {trainer.model.parameters.count:,} parameters, "
        f"{threads.count} thread{'s' if threads.count > 1 else ''} ({threads.reason})"
        f"{'' if precision == 'fp32' else f', {precision}'}"
    )
    start = f", going on from step {trainer.current_step}" if trainer.current_step else ""
    if not start and trainer.config.resume_target == "auto":
        found = "it has no" if trainer.config.output_dir else NO_OTHER_HAS_A
        start = f", from the start: {found} checkpoint"
    if trainer.current_step >= trainer.max_steps or trainer.stopping.due:
        start = f", complete at step {trainer.current_step}"
    say(f"run: {trainer.run.path}{start}")
    for line in _places(trainer):
        say(line)
    for limit in time_limits(trainer.config.max_time):
        say(f"time limit: {limit.words}; the run saves and leaves before")


def _places(trainer: Trainer) -> list[str]:
    """Say where the ranks are, host by host."""
    places = trainer.session.places
    lines = []
    for host in dict.fromkeys(place.host for place in places):
        here = [(rank, place) for rank, place in enumerate(places) if place.host == host]
        threads = sorted({place.threads for _, place in here})
        processors = len(frozenset().union(*(place.processors for _, place in here)))
        lines.append(
            f"{host}: rank{'s' if len(here) > 1 else ''} {here[0][0]}"
            f"{f' to {here[-1][0]}' if len(here) > 1 else ''}, "
            f"{' or '.join(map(str, threads))} thread{'s' if threads != [1] else ''} each, on "
            f"{processors} processors"
        )
    return lines


def _show_profile(trainer: Trainer) -> None:
    """Print where the time of the recorded steps went, if any were recorded."""
    profile = trainer.profile
    if profile is None:
        return
    say(f"\n{profile.table()}")
    if profile.path:
        say(f"trace: {profile.path} (open it in https://ui.perfetto.dev)")


def _interruption(trainer: Trainer) -> str:
    saved = checkpoint.list_checkpoints(trainer.run.checkpoints)
    advice = f"go on with --resume {saved[-1]}" if saved else "there is no checkpoint yet"
    return f"interrupted at step {trainer.current_step}; {advice}"


def _show_sample(trainer: Trainer) -> None:
    """Print a sample of the trained model's text, if the run has a tokenizer."""
    model, tokenizer = trainer.model, trainer.tokenizer
    if tokenizer is None or not isinstance(model, Model) or not model.writes_text:
        return
    text = "".join(sample(model, tokenizer, "", SAMPLE_TOKENS, SAMPLING))
    say(f"\nsample:\n{text.strip()}\n")
