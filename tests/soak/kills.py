"""Runs that are killed again and again, and end with the files of a run that was left alone.

Each round trains a small model by ``tisslm train --resume auto``. A process lives for a random
time; then it is killed (SIGKILL), or sometimes asked to leave (SIGTERM), and started again with
another number of threads. The last one ends by itself.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from interruptions import differences

#: Where the package is, for processes that work elsewhere.
ROOT = Path(__file__).parents[2]

TEXT = "".join(f"{i} green bottles hang on the wall, {i * i} of them fall.\n" for i in range(400))

#: How every configuration begins: the text and the model.
SMALL = """
[data]
path = "text.txt"
[model]
n_layer = 1
n_head = 2
n_embd = 16
seq_len = 16
dropout = 0.1
[training]
batch_size = 4
"""

BASE = (
    SMALL
    + """\
gradient_accumulation_steps = 2
learning_rate = 1e-3
max_steps = {steps}
save_every = {save_every}
validation_frequency = {validation}
monitor_steps = 3
{more}
[log]
sinks = ["jsonl", "csv"]
monitors = ["gradient_norms"]
"""
)

#: Settings that rounds take in turn.
KINDS = (
    'precision = "fp32"',
    'precision = "bf16"\nasync_save = true',
    'precision = "fp16"\nkeep_best = 1',
)

#: What a process that was asked to leave says when it has saved.
SAVED = 75

#: The longest that a process may take without an end, in seconds.
HANGING = 300.0


@dataclass
class Round:
    """What a round came to.

    Attributes
    ----------
    kills, leaves : int
        How many processes were killed, and how many left when they were asked to.
    differences : list of str
        In what the files differ from those of the run that was left alone.
    """

    kills: int
    leaves: int
    differences: list[str]


def prepare(folder: Path, steps: int, save_every: int) -> None:
    """Write the text, and a configuration for each kind of round."""
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    for number, more in enumerate(KINDS):
        text = BASE.format(
            steps=steps, save_every=save_every, validation=max(2, save_every + 3), more=more
        )
        (folder / f"kind{number}.toml").write_text(text, encoding="utf-8")


def start(folder: Path, kind: int, run: str, threads: int) -> subprocess.Popen[bytes]:
    """Start a process that begins the run or goes on with it."""
    command = [sys.executable, "-m", "tisslm", "train", f"kind{kind}.toml", "--resume", "auto"]
    return subprocess.Popen(
        [*command, "--set", f"training.output_dir={run}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TISSLM_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes], codes: Sequence[int]) -> int:
    """Wait for a process that must end with one of some codes."""
    _, said = process.communicate(timeout=HANGING)
    if process.returncode not in codes:
        raise RuntimeError(f"exit code {process.returncode}: {said.decode(errors='replace')}")
    return process.returncode


def reference(folder: Path, kind: int) -> Path:
    """Return the run of a kind that nobody interrupts, made at the first call."""
    run = folder / f"whole{kind}"
    if not run.exists():
        finish(start(folder, kind, run.name, 1), [0])
    return run


def at_work(process: subprocess.Popen[bytes], run: Path) -> None:
    """Return when a process has written a metric, or has ended."""
    path, before = run / "metrics.jsonl", None
    while process.poll() is None:
        found = path.stat() if path.exists() else None
        state = found and (found.st_ino, found.st_size)
        if before is not None and state != before:
            return
        before = state or (0, 0)
        time.sleep(0.005)


def play(
    folder: Path,
    kind: int,
    chance: random.Random,
    lives: tuple[float, float],
    *,
    limit: int = 10**9,
    from_work: float = 0.0,
    until: float = math.inf,
) -> Round:
    """Train a run to its end through kills, and compare.

    Parameters
    ----------
    folder : Path
        That ``prepare`` was called for.
    kind : int
        Which of ``KINDS``.
    chance : Random
        Draws lifetimes, signals and numbers of threads.
    lives : (float, float)
        Shortest and longest life of a process, in seconds.
    limit : int
        So many lives end early; the next goes on to the end.
    from_work : float
        The share of lives that begin with the first metric and not with the process: where
        starting takes longer than a life, only these come any further.
    until : float
        The time, of ``time.monotonic``, from which on none ends early.
    """
    whole, run = reference(folder, kind), folder / "killed"
    shutil.rmtree(run, ignore_errors=True)
    counts = {signal.SIGKILL: 0, signal.SIGTERM: 0}
    while sum(counts.values()) < limit and time.monotonic() < until:
        process = start(folder, kind, run.name, chance.randint(1, 3))
        number = signal.SIGKILL if chance.random() < 0.8 else signal.SIGTERM
        if chance.random() < from_work:
            at_work(process, run)
        try:
            process.wait(chance.uniform(*lives))
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            counts[number] += 1
        # a signal before the run listens ends the process as any other
        if finish(process, [0, SAVED, -number]) == 0:
            break
    else:
        finish(start(folder, kind, run.name, 1), [0])
    found = differences(whole, run)
    found += [f"left behind: {path}" for path in run.rglob(".tmp-*")]
    return Round(counts[signal.SIGKILL], counts[signal.SIGTERM], found)


def soak(folder: Path, seconds: float, seed: int) -> bool:
    """Play rounds until the time is over; tell whether every one came to the same files."""
    prepare(folder, steps=2500, save_every=60)
    chance, end, good, rounds = random.Random(seed), time.monotonic() + seconds, True, 0
    while time.monotonic() < end:
        kind = rounds % len(KINDS)
        found = play(folder, kind, chance, (0.2, 3.0), from_work=0.5, until=end)
        rounds += 1
        good = good and not found.differences
        said = "the same files" if not found.differences else f"DIFFERENT: {found.differences}"
        print(f"round {rounds}: {found.kills} kills, {found.leaves} leaves: {said}", flush=True)
    return good
