"""Tiny runs that are asked to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interruptions import OF_THE_MACHINE

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.contracts import Batch

VOCAB = 11
SHAPE = TransformerConfig(n_layer=1, n_head=1, n_embd=16, seq_len=8, vocab_size=VOCAB, dropout=0.1)


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Build a run of six steps of two micro-batches, with validation at every second."""
    tokens = np.random.default_rng(3).integers(0, VOCAB, 400).astype(np.uint16)

    def make(folder: str = "run", *, sinks: Any = ("jsonl", "csv"), **config: Any) -> Trainer:
        settings: dict[str, Any] = {
            "batch_size": 2,
            "gradient_accumulation_steps": 2,
            "max_steps": 6,
            "save_every": 0,
            "validation_frequency": 2,
            "learning_rate": 1e-2,
            "output_dir": str(tmp_path / folder),
            **config,
        }
        return Trainer(
            Transformer(SHAPE, seed=1),
            dataset=TokenDataset(tokens[:300], 8, vocab_size=VOCAB),
            val_dataset=TokenDataset(tokens[300:], 8, vocab_size=VOCAB),
            config=TrainingConfig(**settings),
            sinks=sinks,
        )

    return make


@pytest.fixture
def at_pass(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Call something in the middle of the n-th pass of a model, counted from 1."""

    def hook(number: int, action: Callable[[], None]) -> None:
        passes = iter(range(1, 10_000))
        real = Transformer.step_loss

        def step_loss(model: Transformer, batch: Batch, *args: Any, **kwargs: Any) -> float:
            if next(passes) == number:
                action()
            return real(model, batch, *args, **kwargs)

        monkeypatch.setattr(Transformer, "step_loss", step_loss)

    return hook


TIMES = set(OF_THE_MACHINE)


@pytest.fixture
def lines() -> Callable[[Trainer], list[dict[str, Any]]]:
    """Return the metric lines of a run without times and memory; both files say the same."""

    def read(trainer: Trainer) -> list[dict[str, Any]]:
        text = (trainer.run.path / "metrics.jsonl").read_text()
        found = [json.loads(line) for line in text.splitlines()]
        rows = (trainer.run.path / "metrics.csv").read_text().splitlines()[1:]
        assert [row.split(",")[0] for row in rows] == [str(line["step"]) for line in found]
        return [
            {
                k: v
                for k, v in line.items()
                if k not in TIMES and not k.startswith(("memory/", "monitor/"))
            }
            for line in found
        ]

    return read


@pytest.fixture
def same() -> Callable[[Trainer, Trainer], bool]:
    """Tell whether two runs have the same parameters, optimizer state and losses, bit for bit."""

    def equal(a: Trainer, b: Trainer) -> bool:
        states = a.optimizer.state(), b.optimizer.state()
        return (
            np.array_equal(a.model.parameters.data, b.model.parameters.data)
            and all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
            and a.loss_history == b.loss_history
        )

    return equal
