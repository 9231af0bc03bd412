"""The losses of embeddings in runs: they fall, and micro-batches do not matter to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_runs import Examples, trainer_of

from tisslm.contracts import EmbeddingLoss
from tisslm.errors import ConfigError
from tisslm.optim.losses import Contrastive, CosineSimilarity, Triplet
from tisslm.tracking.sinks.memory import MemorySink
from tisslm.training.trainer import Trainer

LEARNED = {"logit_scale": 5.0}
CASES: dict[str, tuple[EmbeddingLoss, dict[str, Any], dict[str, Any]]] = {
    "contrastive": (Contrastive(temperature=0.2), {"n_texts": 2}, {}),
    "hard negatives": (Contrastive(temperature=0.2, symmetric=True), {"n_texts": 4}, {}),
    "learned": (Contrastive(temperature="learned"), {"n_texts": 2}, LEARNED),
    "cut": (Contrastive(temperature=0.2, dimensions=[4, 16]), {"n_texts": 3}, {}),
    "triplet": (Triplet(), {"n_texts": 3}, {}),
    "scores": (CosineSimilarity(), {"n_texts": 2, "scored": True}, {}),
}


def trainer(folder: Path, case: str, **changes: Any) -> Trainer:
    loss, data, shape = CASES[case]
    values: dict[str, Any] = {
        "sinks": (),
        "batch_size": 6,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-2,
    }
    dataset = Examples(6, **data)
    return trainer_of(folder, dataset, loss, shape=shape, **{**values, **changes})


@pytest.mark.parametrize("case", CASES)
def test_the_loss_falls_on_a_few_examples(tmp_path: Path, case: str) -> None:
    sink = MemorySink()
    trainer(tmp_path, case, max_steps=40, sinks=[sink]).train()
    losses = [row["train/loss"] for row in sink.rows if "train/loss" in row]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_that_of_any_micro_batches(tmp_path: Path, case: str) -> None:
    found = []
    for size in (6, 3, 1):
        run = trainer(tmp_path / str(size), case, batch_size=size,
                      gradient_accumulation_steps=6 // size, max_steps=1)  # fmt: skip
        run.train()
        found.append(run.model.parameters.grad_arena.copy())
    for again in found[1:]:
        assert np.abs(again - found[0]).max() <= 1e-6 * np.abs(found[0]).max()


def test_one_pair_is_refused_before_the_run_begins(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected at least two examples in an update"):
        trainer(tmp_path, "contrastive", batch_size=1)
