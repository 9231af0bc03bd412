"""A process that trains a tiny run for each line it reads, in a child that can be traced.

As ``saver``, which says more; the lines are ``-- FOLDER`` there and here. Operations are the NumPy
twins, which survive a fork.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True
if __name__ == "__main__":
    os.environ["TISSLM_OPS"] = "reference"
    sys.path[:0] = [sys.argv[1], f"{sys.argv[1]}/tests/crash"]

import numpy as np  # noqa: E402

SHAPE = {"n_layer": 1, "n_head": 1, "n_embd": 8, "seq_len": 4, "vocab_size": 7}


def train(_: str, folder: Path) -> None:
    """Train two steps in a folder, or go on in it."""
    from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig

    settings: dict[str, Any] = {"batch_size": 2, "max_steps": 2, "save_every": 0}
    config = TrainingConfig(**settings, output_dir=str(folder), resume="auto", sample_every=0)
    tokens = np.arange(40) % 7
    Trainer(
        Transformer(TransformerConfig(**SHAPE), seed=1),
        dataset=TokenDataset(tokens, 4, vocab_size=7),
        config=config,
        sinks=("jsonl", "csv"),
    ).train()


if __name__ == "__main__":
    import saver

    train("", Path(sys.argv[2]))  # everything is loaded, and what an undisturbed run leaves
    saver.save = train
    saver._serve()
