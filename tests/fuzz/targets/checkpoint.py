"""Checkpoints: one file changed, with a manifest that verifies again or does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from checkpoints import reseal
from fuzz.mutators import changed_bytes, changed_json

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.models.generation import Sampling, sample
from tisslm.registry import load_registry
from tisslm.tokenizers.char import CharTokenizer
from tisslm.workflows.load_model import load_model

ALPHABET = "abcdefghij"
NAME = "checkpoint-3"


def make_trainer(folder: Path) -> Trainer:
    """Return a trainer with a tokenizer, dropout and a scheduler."""
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 8, "seq_len": 8, "vocab_size": len(ALPHABET)}
    tokens = np.random.default_rng(1).integers(0, len(ALPHABET), 200).astype(np.uint8)
    return Trainer(
        Transformer(TransformerConfig(**shape, dropout=0.1)),
        scheduler="warmup_cosine",
        dataset=TokenDataset(tokens, 8, vocab_size=len(ALPHABET)),
        tokenizer=CharTokenizer.from_text(ALPHABET),
        sinks=("jsonl",),
        config=TrainingConfig(
            batch_size=2,
            max_steps=3,
            output_dir=str(folder / "run"),
            validation_frequency=0,
            threads=1,
        ),
    )


class Files:
    """A checkpoint of a small model, read to write text, and to train on."""

    def __init__(self, folder: Path) -> None:
        self.trainer = make_trainer(folder)
        self.trainer.train()
        self.good = self.trainer.run.checkpoints / NAME
        self.registry = load_registry()

    def copy(self, case: Path) -> None:
        shutil.copytree(self.good, case / NAME)

    def change(self, rng: Random, case: Path) -> None:
        self.copy(case)
        path = rng.choice(sorted((case / NAME).iterdir()))
        as_json = path.suffix == ".json" and rng.random() < 0.6
        change = changed_json if as_json else changed_bytes
        path.write_bytes(change(rng, path.read_bytes()))
        if path.name != "manifest.json" and rng.random() < 0.9:
            reseal(path.parent)

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def write_text() -> None:
            model, tokenizer = load_model(case / NAME, registry=self.registry)
            if tokenizer is not None:
                list(sample(model, tokenizer, "abc", 2, Sampling(seed=1)))

        return [write_text, lambda: self.trainer.load_checkpoint(case / NAME)]
