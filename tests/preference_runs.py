"""Pairs of answers and a language model, small enough to train in a test."""

from __future__ import annotations

from typing import Any

from tisslm.config import TrainingConfig
from tisslm.config.model import TransformerConfig
from tisslm.contracts import Rows
from tisslm.datasets.examples import PreferenceDataset
from tisslm.models.transformer import Transformer
from tisslm.optim.losses import DPO
from tisslm.tokenizers import ByteTokenizer
from tisslm.training.trainer import Trainer

SEQ_LEN = 24


def records(count: int = 12) -> list[dict[str, str]]:
    """Return pairs whose chosen answers have more than one length."""
    return [
        {"prompt": f"{i}:", "chosen": "abc" * (1 + i % 3), "rejected": "cbda"[i % 4] * (1 + i % 5)}
        for i in range(count)
    ]


def pairs_of(count: int = 12, seq_len: int = SEQ_LEN) -> PreferenceDataset:
    """Return a dataset of pairs."""
    return PreferenceDataset(records(count), ByteTokenizer(), seq_len)


def rows_of(dataset: PreferenceDataset, first: int = 0, stop: int = 12) -> Rows:
    """Return some windows as the rows of an update."""
    return Rows.stack([dataset.window(i) for i in range(first, stop)])


def model_of(**changes: Any) -> Transformer:
    """Return a small model of bytes; ``dtype`` and ``tuning`` are those of the model."""
    how = {key: changes.pop(key) for key in ("dtype", "tuning") if key in changes}
    values = {"n_layer": 2, "n_head": 2, "n_embd": 16, "seq_len": SEQ_LEN, "vocab_size": 256}
    return Transformer(TransformerConfig(**{**values, **changes}), seed=3, **how)


def trainer_of(folder: Any, **changes: Any) -> Trainer:
    """Return a trainer of 12 pairs, of which an update has 6 in micro-batches of 2."""
    shape = changes.pop("shape", {})
    parts = {k: changes.pop(k) for k in ("communicator", "sinks", "val_dataset") if k in changes}
    model, loss = changes.pop("model", None), changes.pop("loss", None)
    dataset = changes.pop("dataset", None) or pairs_of()
    values = {
        "batch_size": 2,
        "gradient_accumulation_steps": 3,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "seed": 3,
        "output_dir": str(folder / "run"),
    }
    return Trainer(
        model or model_of(**shape),
        "adamw",
        loss or DPO(beta=0.5),
        "constant",
        dataset,
        TrainingConfig(**{**values, **changes}),
        **parts,
    )
