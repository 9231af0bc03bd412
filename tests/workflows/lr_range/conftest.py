"""A tiny run to test learning rates on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig, ops

SHAPE = TransformerConfig(n_layer=1, n_head=2, n_embd=16, seq_len=16, vocab_size=17, dropout=0.1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = ops.thread_count().count
    ops.set_threads(1)
    yield
    ops.set_threads(before)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Trainer]:
    tokens = np.tile(np.arange(17), 60).astype(np.uint16)

    def build(
        folder: str = "run", *, parts: dict[str, Any] | None = None, **config: Any
    ) -> Trainer:
        settings = {"batch_size": 3, "max_steps": 8, "learning_rate": 1e-2, "save_every": 0}
        settings |= {"output_dir": str(tmp_path / folder), "gradient_accumulation_steps": 2}
        given: dict[str, Any] = {"sinks": (), "dataset": TokenDataset(tokens, 16, vocab_size=17)}
        given |= parts or {}
        return Trainer(
            Transformer(SHAPE, seed=1), config=TrainingConfig(**settings | config), **given
        )

    return build
