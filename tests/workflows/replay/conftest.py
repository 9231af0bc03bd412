"""Runs that write metrics and checkpoints, to be made again."""

from __future__ import annotations

import numpy as np
import pytest
from packing import Packed

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig, ops
from tisslm.contracts import Scheduler

VOCAB, TIME = 17, 16


@pytest.fixture(autouse=True)
def _one_thread():
    """Small models are fastest on one thread, and results do not depend on it."""
    ops.set_threads(1)
    yield
    ops.set_threads(None)


@pytest.fixture
def packed():
    return Packed


@pytest.fixture
def make_trainer(tmp_path):
    def make(*, folder="run", dataset=TokenDataset, parts=None, **config):
        sizes = {"n_layer": 2, "n_head": 2, "n_embd": 32, "seq_len": TIME, "vocab_size": VOCAB}
        settings = {"batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 9}
        settings |= {"learning_rate": 1e-2, "save_every": 3, "keep_checkpoints": 0}
        settings |= {"output_dir": str(tmp_path / folder), "validation_frequency": 0, **config}
        tokens = np.random.default_rng(7).integers(0, VOCAB, 700).astype(np.uint16)
        given = {
            "model": Transformer(TransformerConfig(**sizes, dropout=0.1), seed=1),
            "sinks": ("jsonl",),
            "dataset": dataset(tokens, TIME, vocab_size=VOCAB),
        }
        given |= {
            name: part(given["model"]) if name == "scheduler" and callable(part) else part
            for name, part in (parts or {}).items()
        }
        if isinstance(given.get("scheduler"), Scheduler):
            given["optimizer"] = given["scheduler"].optimizer
        return Trainer(config=TrainingConfig(**settings), **given)

    return make
