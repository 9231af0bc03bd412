"""A launched run whose ranks are killed at random, and which ends as one that was left alone.

``launch`` starts the ranks again by itself; where it has given up, it is called again.
"""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from interruptions import differences
from soak import kills

from tisslm.workflows.launch import launch

#: Exit codes after which nobody calls again: complete, and asked to end by a signal.
ENDS = (0, 75, 130)


@dataclass
class Killer:
    """Kills one rank of each job, after a random life, until there were enough."""

    run: Path
    chance: random.Random
    limit: int
    lives: tuple[float, float]
    n_killed: int = 0
    _threads: list[threading.Thread] = field(default_factory=list)

    def watch(self, pid: int) -> None:
        """Take care of a job, given the process that starts its ranks."""
        thread = threading.Thread(target=self._kill, args=(psutil.Process(pid),), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _kill(self, job: psutil.Process) -> None:
        before = self._written()
        if self.chance.random() < 0.8:  # most lives begin with the first metric of this job
            while is_alive(job) and self._written() == before:
                time.sleep(0.01)
        time.sleep(self.chance.uniform(*self.lives))
        while self.n_killed < self.limit and is_alive(job):
            ranks = ranks_of(job)
            if ranks:
                self.n_killed += 1
                self.chance.choice(ranks).kill()
                break
            time.sleep(0.01)

    def _written(self) -> tuple[int, int]:
        path = self.run / "metrics.jsonl"
        found = path.stat() if path.exists() else None
        return (found.st_ino, found.st_size) if found else (0, 0)


def is_alive(process: psutil.Process) -> bool:
    """Return True while a process has not ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def ranks_of(job: psutil.Process) -> list[psutil.Process]:
    """Return the ranks of a job: the processes below it that train."""
    return [one for one in below(job) if "train" in line_of(one) and "-n" not in line_of(one)]


def below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def line_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def soak(folder: Path, ranks: int, limit: int, seed: int) -> bool:
    """Kill so many ranks of one run, and compare its files with those of one process."""
    kills.prepare(folder, steps=1000, save_every=10)
    settings = ["training.global_batch_size=8", "training.reduction_parts=2"]
    path = str(folder / "kind0.toml")
    text = Path(path).read_text(encoding="utf-8")
    text = text.replace("gradient_accumulation_steps = 2\n", "").replace(
        'path = "text.txt"', f'path = "{folder / "text.txt"}"'
    )
    Path(path).write_text(text, encoding="utf-8")
    os.environ |= {"TISSLM_OVERSUBSCRIBE": "1", "TISSLM_NUM_THREADS": "1"}
    whole, run = folder / "whole", folder / "killed"
    if launch(path, [*settings, f"training.output_dir={whole}"], ranks=1) != 0:
        return False
    killer = Killer(run, random.Random(seed), limit, (0.0, 2.0))
    calls, code = 0, -1
    while code not in ENDS and calls <= limit:
        code = launch(
            path,
            [*settings, f"training.output_dir={run}"],
            ranks=ranks,
            resume="auto",
            max_restarts=10**6,
            pause=0,
            watch=killer.watch,
        )
        calls += 1
    found = differences(whole, run) if code == 0 else [f"exit code {code}"]
    found += [f"left behind: {path}" for path in run.rglob(".tmp-*")]
    said = "the same files" if not found else f"DIFFERENT: {found}"
    print(f"{killer.n_killed} kills of {ranks} ranks in {calls} launches: {said}", flush=True)
    return not found
