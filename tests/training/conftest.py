"""Tiny runs: a few hundred tokens, a model of a few thousand parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig, ops

VOCAB = 17


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(7).integers(0, VOCAB, 700).astype(np.uint16)


@pytest.fixture
def make_model() -> Callable[..., Transformer]:
    def make(seed: int = 1, dtype: str = "float32", **shape: Any) -> Transformer:
        sizes = {"n_layer": 2, "n_head": 2, "n_embd": 32, "seq_len": 16, "vocab_size": VOCAB}
        return Transformer(TransformerConfig(**{**sizes, **shape}), seed=seed, dtype=dtype)

    return make


@pytest.fixture
def make_trainer(
    tmp_path: Path, tokens: np.ndarray, make_model: Callable[..., Transformer]
) -> Callable[..., Trainer]:
    def make(
        *,
        folder: str = "run",
        dropout: float = 0.1,
        parts: dict[str, Any] | None = None,
        **config: Any,
    ) -> Trainer:
        settings = {"batch_size": 3, "max_steps": 6, "learning_rate": 1e-2, "save_every": 0}
        settings |= {"output_dir": str(tmp_path / folder), "validation_frequency": 0, **config}
        given: dict[str, Any] = {"sinks": (), **(parts or {})}
        model = given.pop("model", None) or make_model(dropout=dropout)
        given.setdefault("dataset", TokenDataset(tokens, 16, vocab_size=VOCAB))
        return Trainer(model, config=TrainingConfig(**settings), **given)

    return make


@pytest.fixture
def threads():
    """Set the number of threads; what was chosen before comes back."""
    before = ops.thread_count().count
    yield ops.set_threads
    ops.set_threads(before)


def parameters_of(trainer: Trainer) -> dict[str, np.ndarray]:
    return {p.name: p.data.copy() for p in trainer.model.parameters}


@pytest.fixture
def same_bits() -> Callable[[Trainer, Trainer], bool]:
    def same(a: Trainer, b: Trainer) -> bool:
        first, second = parameters_of(a), parameters_of(b)
        states = a.optimizer.state(), b.optimizer.state()
        return (
            all(np.array_equal(first[n], second[n]) for n in first)
            and all(np.array_equal(states[0][n], states[1][n]) for n in states[0])
            and a.loss_history == b.loss_history
        )

    return same
