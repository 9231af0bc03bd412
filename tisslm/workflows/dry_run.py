"""Trying a run without leaving a trace: two updates, an evaluation, and a look at the disk.

The second update is timed; the first windows of the validation data are evaluated; the size of
checkpoints is compared with the free space of the disk. Sinks are built and not opened, since
opening may begin a run on a server.

The memory of a run is predicted in ``training.memory_plan``, its speed without its data in
``speed``.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tisslm.contracts import Rows
from tisslm.datasets.few import FewWindows
from tisslm.errors import ConfigError
from tisslm.system.quantities import duration_text, size_text, step_time_text
from tisslm.training.evaluation import evaluate_model
from tisslm.training.trainer import Trainer

__all__ = ["DryRun", "dry_run"]

STEPS = 2

#: Bytes of a checkpoint beside its arrays.
SMALL_FILES = 2**16


@dataclass(frozen=True)
class DryRun:
    """What a dry run has measured.

    Attributes
    ----------
    losses : tuple of float
        Losses of the updates, in nats.
    step_seconds : float
        Duration of the last update.
    tokens : int
        Tokens in one update.
    remaining : int
        Updates that the run has still to make.
    validation_loss : float or None
        Mean loss of the first windows; None without validation data.
    evaluation_seconds : float
        Expected duration of one evaluation, extrapolated from the first windows.
    evaluations : int
        How many evaluations the run will make.
    checkpoint_bytes, free_bytes : int
        Size of a checkpoint, and free space on the disk of the run directory.
    kept : int
        Checkpoints that will be on the disk at once, the one being written included.
    """

    losses: tuple[float, ...]
    step_seconds: float
    tokens: int
    remaining: int
    validation_loss: float | None
    evaluation_seconds: float
    evaluations: int
    checkpoint_bytes: int
    free_bytes: int
    kept: int

    @property
    def run_seconds(self) -> float:
        """The expected duration of the run, without writing checkpoints."""
        return self.remaining * self.step_seconds + self.evaluations * self.evaluation_seconds

    def lines(self) -> list[str]:
        """Return a summary in a few lines."""
        losses = ", ".join(f"{loss:.4f}" for loss in self.losses)
        rate = self.tokens / self.step_seconds
        step_time = step_time_text(self.step_seconds)
        found = [f"steps: loss {losses}; {step_time} a step, {rate:,.0f} tokens/s"]
        if self.validation_loss is not None:
            found.append(
                f"evaluation: loss {self.validation_loss:.4f} of the first windows; about "
                f"{duration_text(self.evaluation_seconds)} each, {self.evaluations} times"
            )
        needed = self.checkpoint_bytes * self.kept
        found.append(
            f"checkpoints: {size_text(self.checkpoint_bytes)} each, {self.kept} at once; the disk "
            f"has {size_text(self.free_bytes)}"
            + ("" if needed <= self.free_bytes else ", which is too little")
        )
        found.append(f"the run: {self.remaining} steps, about {duration_text(self.run_seconds)}")
        return found


def dry_run(trainer: Trainer) -> DryRun:
    """Try a run without writing anything; the trainer cannot be used afterwards.

    Parameters
    ----------
    trainer : Trainer
        A trainer that has made no step.

    Raises
    ------
    ConfigError
        If there is no dataset, or the run directory cannot be created or written.
    NonFiniteError, SpikeError
        If the run would stop at one of the first steps.
    """
    batches = trainer.session.batches("dry run", STEPS)
    free = _room(trainer.run.path)
    remaining = 0 if trainer.stopping.due else trainer.max_steps - trainer.current_step
    remaining, checkpoint_bytes = max(0, remaining), _checkpoint_bytes(trainer)
    evaluations, kept = _evaluations(trainer, remaining), _kept(trainer, remaining)
    losses, seconds, tokens = _steps(trainer, batches)
    loss, evaluation_seconds = _evaluate(trainer)
    return DryRun(
        losses,
        seconds,
        tokens,
        remaining,
        loss,
        evaluation_seconds,
        evaluations,
        checkpoint_bytes,
        free,
        kept,
    )


def _steps(trainer: Trainer, batches: Iterator[Rows]) -> tuple[tuple[float, ...], float, int]:
    losses, seconds, tokens = [], 0.0, 0
    for _ in range(STEPS):
        start = time.perf_counter()
        rows = next(batches)
        result = trainer.session.train_step(rows)
        losses.append(result.loss)
        seconds, tokens = time.perf_counter() - start, result.tokens
    return tuple(losses), seconds, tokens


def _evaluate(trainer: Trainer) -> tuple[float | None, float]:
    """Evaluate the first windows; return their loss, and the expected seconds of one evaluation."""
    whole, rows = trainer.val_dataset, trainer.config.batch_size
    if whole is None:
        return None, 0.0
    few = FewWindows(whole, range(min(rows, len(whole))))
    found = evaluate_model(trainer.session.parts, few, trainer.config)
    wanted = min(len(whole), trainer.config.eval_batches * rows) or len(whole)  # 0 is all
    return found.loss, found.seconds * wanted / len(few)


def _evaluations(trainer: Trainer, remaining: int) -> int:
    """Return how many evaluations the run will make: on the way, before saves, and at the end."""
    config, first = trainer.config, trainer.current_step
    if trainer.val_dataset is None or not remaining:
        return 0
    last = first + remaining
    rhythms = [config.validation_frequency, config.save_every if trainer.retention.best else 0]
    return len({last}.union(*(_multiples(every, first, last) for every in rhythms)))


def _multiples(every: int, first: int, last: int) -> Iterable[int]:
    return range((first // every + 1) * every, last + 1, every) if every else ()


def _kept(trainer: Trainer, remaining: int) -> int:
    """Return the largest number of checkpoints that will be on the disk at once."""
    config, first = trainer.config, trainer.current_step
    last = first + remaining
    rhythms = [config.save_every]
    if config.restore_best:
        rhythms.append(config.validation_frequency)  # each may be the best so far, and is saved
    saves = len({last}.union(*(_multiples(every, first, last) for every in rhythms)))
    if trainer.retention.newest == 0:
        return saves
    forever = len(range(0, last + 1, config.keep_every)) if config.keep_every else 0
    return min(saves, trainer.retention.newest + trainer.retention.best + forever) + 1


def _checkpoint_bytes(trainer: Trainer) -> int:
    return trainer.session.take().nbytes + SMALL_FILES


def _room(path: Path) -> int:
    """Return the free bytes on the disk where the run directory is or will be."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise ConfigError(
            f"training.output_dir: {str(path)!r} cannot be made, because {str(there)!r} cannot be "
            "written; choose another directory or mend its permissions"
        )
    return shutil.disk_usage(there).free
