"""Tiny runs, and steps of them that fail."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
from packing import Packed

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig, ops

VOCAB, TIME = 17, 16


@pytest.fixture(autouse=True)
def _one_thread():
    """Small models are fastest on one thread, and results do not depend on it."""
    ops.set_threads(1)
    yield
    ops.set_threads(None)


@pytest.fixture
def packed():
    ids = np.random.default_rng(7).integers(0, VOCAB, 700).astype(np.uint16)
    return Packed(ids, TIME, vocab_size=VOCAB)


@pytest.fixture
def make_trainer(tmp_path):
    def make(*, folder="run", model=None, parts=None, dtype="float32", tokens=700, **config):
        sizes = {"n_layer": 2, "n_head": 2, "n_embd": 32, "seq_len": TIME, "vocab_size": VOCAB}
        settings = {"batch_size": 3, "max_steps": 6, "learning_rate": 1e-2, "save_every": 0}
        settings |= {"output_dir": str(tmp_path / folder), "validation_frequency": 0, **config}
        shape = TransformerConfig(**{**sizes, "dropout": 0.1, **(model or {})})
        given = {"sinks": (), **(parts or {})}
        if "dataset" not in given:
            ids = np.random.default_rng(7).integers(0, VOCAB, tokens).astype(np.uint16)
            given["dataset"] = TokenDataset(ids, TIME, vocab_size=VOCAB)
        made = Transformer(shape, seed=1, dtype=dtype)
        return Trainer(made, config=TrainingConfig(**settings), **given)

    return make


@pytest.fixture
def fail():
    """Make steps until one is refused; return what was found out about it, and the message."""

    def run(trainer, poison=None, steps=2):
        batches = trainer.dataset.batches(trainer.rows_per_update, trainer.config.seed)
        for _ in range(steps - 1):
            trainer.train_step(*next(batches))
        with ExitStack() as stack:
            if poison is not None:
                stack.enter_context(ops.watching(poison))
                stack.enter_context(trainer.model.observed(poison))
            with pytest.warns(RuntimeWarning, match="not applied") as warned:
                trainer.train_step(*next(batches))
        return str(warned[0].message)

    return run
