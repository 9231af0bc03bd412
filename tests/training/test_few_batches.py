"""Runs on a few batches, which a right model learns by heart."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tisslm import TokenDataset


@pytest.fixture
def overfit(make_trainer, tokens):
    def make(batches, *, valid=True, **config):
        parts = {
            "sinks": ["jsonl"],
            "scheduler": "constant",
            "val_dataset": TokenDataset(tokens[:120], 16, vocab_size=17) if valid else None,
        }
        return make_trainer(parts=parts, overfit_batches=batches, **config)

    return make


def test_one_batch_is_learned_by_heart(overfit):
    trainer = overfit(1, dropout=0.0, max_steps=80, validation_frequency=40)
    trainer.train()
    assert trainer.loss_history[0] > 2.0
    assert trainer.loss_history[-1] < 0.1
    text = (trainer.run.path / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["eval/loss"] < 0.1 for line in lines if "eval/loss" in line][-1]


def test_the_windows_are_those_of_the_first_steps(overfit, make_trainer):
    ordinary = make_trainer()
    few = overfit(2, gradient_accumulation_steps=2)
    rows = 2 * 2 * 3
    assert (len(few.dataset), few.steps_per_epoch) == (rows, 2)
    order = ordinary.dataset.order(42, 0)
    for i in range(rows):
        assert np.array_equal(few.dataset.window(i).x, ordinary.dataset.window(order[i]).x)
    assert few.val_dataset is few.dataset


def test_no_validation_data_are_made_up_and_no_more_windows_than_there_are(overfit, make_trainer):
    few = overfit(1000, valid=False)
    assert few.val_dataset is None
    assert len(few.dataset) == len(make_trainer().dataset)


def test_epochs_are_those_of_the_few(overfit):
    assert overfit(2, max_steps=-1, epochs=5).max_steps == 10
