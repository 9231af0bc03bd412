"""Cases counted: how many changed files were accepted and refused, and what failed.

A failure is anything but an error of TissLM's: another exception, a process that ends or hangs, too
much time or memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["MEMORY", "SECONDS", "Outcome", "run"]

#: What a case may take: seconds of processor time, and bytes above what the process had.
SECONDS = 2.0
MEMORY = 512 * 2**20

#: Seconds after which a case that says nothing is ended; a busy machine may stop for long.
PATIENCE = 120.0

TESTS = Path(__file__).parents[1]


@dataclass
class Outcome:
    """What came of the cases of a target.

    Attributes
    ----------
    accepted, refused : int
    slowest : float
        Seconds.
    most : int
        Bytes.
    failures : dict of int to str
        By the number of the case.
    """

    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    most: int = 0
    failures: dict[int, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of cases."""
        return self.accepted + self.refused + len(self.failures)

    def add(self, case: dict[str, Any]) -> None:
        """Count a case that came to its end."""
        self.slowest = max(self.slowest, case["seconds"])
        self.most = max(self.most, case["memory"])
        if case["failure"]:
            self.failures[case["number"]] = case["failure"]
        elif case["seconds"] >= SECONDS:
            self.failures[case["number"]] = f"it took {case['seconds']:.1f} s"
        elif case["memory"] >= MEMORY:
            self.failures[case["number"]] = f"it took {case['memory'] / 2**20:.0f} MiB"
        elif case["refusals"]:
            self.refused += 1
        else:
            self.accepted += 1


def run(target: str, count: int, seed: int = 1, first: int = 0) -> Outcome:
    """Read changed files in processes of their own.

    Parameters
    ----------
    target : str
        One of ``fuzz.targets.TARGETS``.
    count : int
    seed : int
        With the number of a case, it decides what is changed.
    first : int
        Number of the first case.
    """
    outcome, number, last = Outcome(), first, first + count
    while number < last:
        with tempfile.TemporaryDirectory(prefix="tisslm-fuzz-") as folder:
            log = Path(folder, "stderr")
            for case in _cases(target, seed, number, last - number, Path(folder), log):
                outcome.add(case)
                number = case["number"] + 1
            if number < last:
                end = log.read_text(errors="replace")[-2000:]
                if "good files are refused" in end or "Traceback" in end:
                    raise RuntimeError(end)
                outcome.failures[number] = f"the process ended: {end}"
                number += 1
    return outcome


def _cases(
    target: str, seed: int, first: int, count: int, folder: Path, log: Path
) -> Iterator[dict[str, Any]]:
    """Yield the cases of one process, until it has done all or ends before."""
    words = [target, str(seed), str(first), str(count), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(TESTS), "RUST_BACKTRACE": "0"}
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker", *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        ) as process,
    ):
        assert process.stdout is not None
        while True:
            timer = threading.Timer(PATIENCE, process.kill)
            timer.start()
            line = process.stdout.readline()
            timer.cancel()
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)
