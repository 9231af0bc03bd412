"""A run of a model with two blocks whose every step is cheap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig, ops

VOCAB = 17


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = ops.thread_count().count
    ops.set_threads(2)
    yield
    ops.set_threads(before)


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """``make_trainer(profile_steps=2)``: a trainer whose run directory is ``tmp_path/run``."""

    def make(folder: str = "run", **config: Any) -> Trainer:
        shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "seq_len": 16, "vocab_size": VOCAB}
        tokens = np.random.default_rng(7).integers(0, VOCAB, 700).astype(np.uint16)
        settings = {"batch_size": 3, "max_steps": 6, "learning_rate": 1e-2, "save_every": 0}
        settings |= {"output_dir": str(tmp_path / folder), "validation_frequency": 0, **config}
        return Trainer(
            Transformer(TransformerConfig(**shape, dropout=0.1), seed=1),
            dataset=TokenDataset(tokens, 16, vocab_size=VOCAB),
            config=TrainingConfig(**settings),
            sinks=(),
        )

    return make


@pytest.fixture
def profile(make_trainer: Callable[..., Trainer]) -> Any:
    """Two recorded steps."""
    trainer = make_trainer(profile_steps=2)
    trainer.train()
    return trainer.profile
