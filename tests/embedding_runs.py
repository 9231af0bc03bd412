"""Examples of texts, an encoder and a loss, small enough to train in a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tisslm.config import TrainingConfig
from tisslm.config.model import TransformerConfig
from tisslm.contracts import Dataset, EmbeddingLoss, PooledBatch, PooledValue, Rows
from tisslm.models.encoder.text_encoder import TextEncoder
from tisslm.training.trainer import Trainer

VOCAB, LONGEST = 23, 9


class Examples(Dataset):
    """Drawn texts, K in each of N examples, of 1 to 9 tokens."""

    def __init__(self, count: int = 12, n_texts: int = 2, *, scored: bool = False) -> None:
        self.vocab_size = VOCAB
        self.seq_len = n_texts * LONGEST
        self._count, self._n_texts, self._scored = count, n_texts, scored

    def __len__(self) -> int:
        return self._count

    def window(self, i: int) -> Rows:
        rng = np.random.default_rng([i, self._n_texts])
        lengths = rng.integers(1, LONGEST + 1, size=self._n_texts).astype(np.int32)
        x, y = np.zeros(self.seq_len, np.int32), np.full(self.seq_len, -100, np.int32)
        x[: lengths.sum()] = rng.integers(0, VOCAB, size=lengths.sum())
        y[np.cumsum(lengths) - 1] = 0
        score = {"score": np.float32(rng.random())} if self._scored else {}
        return Rows(x, y, None, {"lengths": lengths, **score})

    def order(self, seed: int, epoch: int) -> Sequence[int]:
        return np.random.default_rng([seed, epoch]).permutation(self._count).tolist()


class InBatch(EmbeddingLoss):
    """Cross-entropy of each anchor's cosines, or products, with all texts that are no anchors."""

    needs_others = True

    def __init__(self, temperature: float = 0.2, *, learned: bool = False) -> None:
        self.temperature, self.learns_scale = temperature, learned

    def value(self, pooled: PooledBatch, *, gradient: bool = True) -> PooledValue:
        """Compute it in float64."""
        e_KNE = pooled.embeddings_KNE.astype("f8")
        n_texts, count, width = e_KNE.shape
        log_scale = pooled.log_scale if self.learns_scale else None
        scale = 1 / self.temperature if log_scale is None else float(np.exp(log_scale))
        others = e_KNE[1:].reshape(-1, width)
        z = scale * e_KNE[0] @ others.T
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        at = np.arange(count)
        loss = -float(np.log(p[at, at]).mean())
        if not gradient:
            return PooledValue(loss)
        d_z = p
        d_z[at, at] -= 1.0
        d_z /= count
        d_KNE = np.empty_like(e_KNE)
        d_KNE[0] = scale * d_z @ others
        d_KNE[1:] = (scale * d_z.T @ e_KNE[0]).reshape(n_texts - 1, count, width)
        d_scale = 0.0 if log_scale is None else float((d_z * z).sum())
        return PooledValue(loss, d_KNE.astype(pooled.embeddings_KNE.dtype), d_scale)


def shape_of(**changes: Any) -> TransformerConfig:
    """Return a small shape with pooling."""
    values = {"n_layer": 2, "n_head": 2, "n_embd": 16, "seq_len": 20, "vocab_size": VOCAB}
    return TransformerConfig(**{**values, "pooling": "mean", **changes})


def trainer_of(
    tmp_path: Any, dataset: Dataset | None = None, loss: Any = None, **changes: Any
) -> Trainer:
    """Return a trainer of a small encoder; ``shape`` has changes of the model's shape."""
    shape, seed = changes.pop("shape", {}), 3
    named = ("communicator", "monitors", "sinks", "dtype", "ema", "val_dataset")
    others = {k: changes.pop(k) for k in named if k in changes}
    model = TextEncoder(shape_of(**shape), seed=seed, dtype=others.pop("dtype", "float32"))
    values = {"batch_size": 3, "gradient_accumulation_steps": 2, "max_steps": 4, "seed": seed}
    config = TrainingConfig(**{**values, "output_dir": str(tmp_path / "run"), **changes})
    return Trainer(
        model,
        "adamw",
        InBatch() if loss is None else loss,
        "constant",
        Examples() if dataset is None else dataset,
        config,
        **others,
    )


def run_of(folder: Any, communicator: Any = "local", **changes: Any) -> Trainer:
    """Return a trainer of everything that has a state: dropout, a projection, a temperature."""
    settings = {
        "batch_size": 2,
        "gradient_accumulation_steps": 1,
        "global_batch_size": 12,
        "reduction_parts": 6,
        "learning_rate": 1e-2,
        "max_steps": 5,
    }
    return trainer_of(
        folder,
        Examples(20),
        InBatch(learned=True),
        communicator=communicator,
        shape={"dropout": 0.2, "logit_scale": 5.0, "projection": 6, "causal": False},
        **{**settings, **changes},
    )
