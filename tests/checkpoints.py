"""Small checkpoints, and those that a test has changed by hand, made to verify again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from tisslm.checkpoint import (
    CONFIG,
    MODEL,
    OPTIMIZER,
    TRAINER,
    TRAINER_ARRAYS,
    Checkpoint,
    tokenizer_files,
    write,
)
from tisslm.checkpoint.manifest import MANIFEST, Manifest, read_manifest, render
from tisslm.config.model import TransformerConfig
from tisslm.models.transformer import Transformer
from tisslm.system.durable import FileRecord
from tisslm.tokenizers.char import CharTokenizer


def reseal(folder: Path) -> None:
    """Write the manifest that fits what the files are now."""
    before = read_manifest(folder)
    files = {
        path.name: FileRecord(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.iterdir()
        if path.name != MANIFEST
    }
    (folder / MANIFEST).write_bytes(render(Manifest(before.step, files, before.metrics)))


def small(folder: Path, step: int) -> Path:
    """Write a checkpoint of a model of some thousand parameters, other ones for each step."""
    config = TransformerConfig(n_layer=2, n_head=2, n_embd=24, seq_len=8, vocab_size=10, bias=False)
    model = Transformer(config, seed=step)
    arrays = model.parameters.state()
    files = {
        MODEL: arrays,
        CONFIG: config.values(),
        OPTIMIZER: {f"{name}/m": array * 0.5 for name, array in arrays.items()}
        | {"step": np.array([step])},
        TRAINER: {"global_step": step},
        TRAINER_ARRAYS: {f"losses_{i}": np.full(600, step + i, np.float64) for i in range(20)},
    }
    tokenizer = {"name": "char", "state": CharTokenizer.from_text("abcdefghij").state()}
    kept = Checkpoint(files | tokenizer_files(tokenizer), metrics={"eval/loss": 1.0 / step})
    return write(folder, step, kept)


def flip(path: Path, at: int = -1) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
