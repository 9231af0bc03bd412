"""Training on rows of several documents: a dataset's third array reaches every pass."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from packing import Packed

from tisslm import TokenDataset
from tisslm.contracts import Batch, Rows, target_weights
from tisslm.errors import ConfigError, DataError, ShapeError
from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.training.evaluation import evaluate

VOCAB, T = 17, 16


@pytest.fixture
def packed(tokens):
    return Packed(tokens, T, vocab_size=VOCAB)


def test_batches_and_streams_have_three_arrays(packed):
    packed.batch_size, packed.seed = 4, 1
    for batches in (packed.batches(4, 1), packed.stream(4, 1), iter(packed)):
        for x, y, start in islice(batches, 3):
            assert x.shape == y.shape == start.shape == (4, T)
            assert start.dtype == np.int32


def test_a_run_trains_and_evaluates_on_documents(make_trainer, packed, tokens):
    """And not as on the same windows without them."""
    parts = {"dataset": packed, "val_dataset": packed}
    trainer = make_trainer(parts=parts, gradient_accumulation_steps=2, max_steps=4)
    by_hand = make_trainer(folder="other", parts=parts, gradient_accumulation_steps=2, max_steps=4)
    without = make_trainer(
        folder="third", parts={"dataset": TokenDataset(tokens, T, vocab_size=VOCAB)}
    )
    trainer.train()
    assert trainer.current_step == 4
    given = list(islice(packed.batches(6, trainer.config.seed), 4))
    for x, y, start in given:
        by_hand.train_step(x, y, start)
        without.train_step(x, y)
    assert by_hand.loss_history == trainer.loss_history
    assert without.loss_history != trainer.loss_history
    found = evaluate(trainer.model, packed, CrossEntropy(), batch_size=5)
    total = 0.0
    for i in range(len(packed)):
        x, y, start = (part[None] for part in packed.window(i))
        batch = Batch(x, y, (y >= 0) / found.targets, start)
        total += trainer.model.step_loss(batch, CrossEntropy(), gradient=False, train=False)
    assert found.loss == pytest.approx(total, rel=1e-6)


def test_micro_batches_have_the_bits_of_one_batch_but_for_the_sum(make_trainer, packed):
    """Each gets its own rows of the starts."""
    trainer = make_trainer(parts={"dataset": packed}, batch_size=2)
    x, y, start = next(packed.batches(6, 0))
    loss = trainer.session.step.gradients(Rows(x, y, start))
    found = trainer.model.parameters.grad.copy()
    trainer.zero_gradients()
    weights = target_weights(y, np.float64)
    expected = 0.0
    for first in (0, 2, 4):
        own = slice(first, first + 2)
        batch = Batch(x[own], y[own], weights[own], start[own])
        expected += trainer.model.step_loss(batch, CrossEntropy(), first_row=first)
    assert loss == expected
    assert np.array_equal(trainer.model.parameters.grad, found)


def test_starts_of_another_shape_are_refused(make_trainer, packed):
    trainer = make_trainer(parts={"dataset": packed})
    x, y, start = next(packed.batches(6, 0))
    with pytest.raises(ShapeError) as caught:
        trainer.train_step(x, y, start[:5])
    assert str(caught.value) == (
        "start: expected an array of the tokens' shape (6, 16), the position in its row at which "
        "the document of each token begins, got (5, 16)"
    )


def test_a_model_without_documents_refuses_such_data(make_trainer, packed, monkeypatch):
    trainer = make_trainer(parts={"dataset": packed})
    monkeypatch.setattr(type(trainer.model), "takes_documents", False)
    said = "model Transformer: it does not keep the documents of a row apart"
    with pytest.raises(ConfigError, match=said):
        trainer.train_step(*next(packed.batches(6, 0)))
    with pytest.raises(ConfigError, match=said):
        evaluate(trainer.model, packed, CrossEntropy())


def test_windows_of_two_kinds_are_refused(packed, monkeypatch):
    window = packed.window
    monkeypatch.setattr(
        packed, "window", lambda i: replace(window(i), start=None) if i % 2 else window(i)
    )
    with pytest.raises(DataError) as caught:
        next(packed.batches(6, 0))
    assert str(caught.value) == (
        "dataset.window: expected the same arrays of every window, got x, y of one and x, y, "
        "start of another; return them for all (start: zeros where a window is one document)"
    )
