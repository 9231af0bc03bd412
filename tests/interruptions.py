"""Runs that are interrupted at a chosen place, and what must be equal afterwards."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tisslm import Trainer
from tisslm.checkpoint import newest
from tisslm.system.durable import Disk
from tisslm.tracking.processor import ProcessorUse

#: Metrics of the machine and not of the run.
OF_THE_MACHINE = (
    "train/tokens_per_second",
    "train/step_time_ms",
    "train/data_time_ms",
    "train/tflops",
    "train/mfu",
    "eval/runtime",
    "eval/samples_per_second",
    "system/cpu_percent",
)

#: Files of a checkpoint that must have the same bytes; the manifest has those of all.
FILES = ("model.safetensors", "optimizer.safetensors", "trainer.safetensors", "trainer_state.json")


class Interruption(BaseException):
    """Ends a run wherever it is, as Ctrl-C does."""


class Places:
    """Counts the calls of a run's functions, and ends it before the call of a number, from 1.

    Attributes
    ----------
    names : list of str
        What was called, in order.
    """

    def __init__(self, stop_at: int = 0) -> None:
        self.stop_at = stop_at
        self.names: list[str] = []

    def watch(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self.names.append(name)
            if len(self.names) == self.stop_at:
                raise Interruption(name)
            return call(*arguments, **options)

        return watched

    def watch_all(self, trainer: Trainer, monkeypatch: Any) -> None:
        """Watch steps, micro-batches, updates, schedules, reports, evaluations and saves."""
        for part, method in (
            (trainer.session, "train_step"),
            (trainer.model, "step_loss"),  # micro-batches, in training and in validation
            (trainer.optimizer, "update"),
            (trainer.scheduler, "step"),
            (trainer.sinks, "write"),
            (trainer.run, "write_summary"),
        ):
            monkeypatch.setattr(part, method, self.watch(method, getattr(part, method)))
        for method in ("make_directory", "write_file", "sync_directory", "rename", "remove"):
            call = self.watch(method, getattr(Disk, method))
            # a plain function, so that it is a method of every disk
            monkeypatch.setattr(Disk, method, lambda *a, _call=call, **k: _call(*a, **k))
        # The processors' use, which comes once half a second has passed, is the one metric that
        # comes when the clock says so: csv's header then grows, by a rename. Here, at the second
        # report, so that two runs make the same calls however fast they are.
        reports = itertools.count(1)
        use = {"system/cpu_percent": 50.0}
        monkeypatch.setattr(ProcessorUse, "metrics", lambda _: use if next(reports) > 1 else {})


def metric_lines(run: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl, and of metrics.csv if it is there, less the machine's."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if (run / "metrics.csv").exists():
        with (run / "metrics.csv").open(newline="") as file:
            lines += list(csv.DictReader(file))
    return [
        {
            k: v
            for k, v in line.items()
            if k not in OF_THE_MACHINE and not k.startswith(("memory/", "monitor/"))
        }
        for line in lines
    ]


def digests(checkpoint: Path) -> dict[str, str]:
    """Return the SHA-256 of the files of a checkpoint."""
    return {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in FILES}


def differences(whole: Path, resumed: Path) -> list[str]:
    """Say in what the run directories of two finished runs differ; nothing if they are equal."""
    first, second = newest(whole / "checkpoints"), newest(resumed / "checkpoints")
    if first is None or second is None or first.name != second.name:
        return [f"last checkpoint: {first} and {second}"]
    theirs = digests(second)
    found = [name for name, digest in digests(first).items() if theirs[name] != digest]
    states = [json.loads((path / "trainer_state.json").read_text()) for path in (first, second)]
    found += [
        f"{k}: {v}, {states[1].get(k)}" for k, v in states[0].items() if states[1].get(k) != v
    ]
    return found + (["metrics"] if metric_lines(whole) != metric_lines(resumed) else [])
