"""Memory, open files and threads of a run of many steps: none grows.

One process trains a tiny model, with saves, evaluations, metrics and a monitor, and looks at itself
now and then.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig, ops
from tisslm.contracts import Sink
from tisslm.system.memory_limit import resident

MIB = 2**20


@dataclass(frozen=True)
class Look:
    """What a process holds at a step: resident bytes, open files, threads of both kinds."""

    step: int
    resident: int
    files: int
    threads: int
    native_threads: int


class Watch(Sink):
    """Looks at the process every so many steps."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.looks: list[Look] = []

    def open(self, run) -> None:
        pass

    def write(self, step, metrics) -> None:
        if step % self.every == 0 and "train/loss" in metrics:
            files, threads = os.listdir("/proc/self/fd"), os.listdir("/proc/self/task")
            self.looks.append(
                Look(step, resident(), len(files), threading.active_count(), len(threads))
            )


def train(folder: Path, steps: int, looks: int, threads: int) -> list[Look]:
    """Train for so many steps, and return what was seen at so many of them."""
    ops.set_threads(threads)
    shape = TransformerConfig(n_layer=1, n_head=1, n_embd=16, seq_len=8, vocab_size=11, dropout=0.1)
    tokens = np.random.default_rng(1).integers(0, 11, 4000).astype(np.uint16)
    watch = Watch(steps // looks)
    every = steps // looks // 4
    config = TrainingConfig(
        batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=steps,
        save_every=every,
        validation_frequency=every,
        log_gradients=True,
        monitor_steps=1,
        output_dir=str(folder / "growth"),
    )
    Trainer(
        Transformer(shape, seed=1),
        dataset=TokenDataset(tokens[:3600], 8, vocab_size=11),
        val_dataset=TokenDataset(tokens[3600:], 8, vocab_size=11),
        config=config,
        sinks=["jsonl", "csv", watch],
    ).train()
    return watch.looks


def report(looks: list[Look]) -> tuple[str, bool]:
    """Compare the last look with the first, when all that a run needs is there."""
    first, last = looks[0], looks[-1]
    grown = max(0, last.resident - first.resident)
    same = (first.files, first.threads, first.native_threads) == (
        last.files,
        last.threads,
        last.native_threads,
    )
    text = (
        f"from step {first.step} to {last.step}: {grown / MIB:.2f} MiB more resident "
        f"({last.resident / MIB:.1f} in all), open files {first.files} and {last.files}, threads "
        f"{first.native_threads} and {last.native_threads}"
    )
    return text, same and grown < MIB
