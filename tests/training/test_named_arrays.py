"""What a dataset gives goes by name through a run, and what is no ``Rows`` is refused early."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tisslm import TokenDataset
from tisslm.contracts import Dataset, Rows
from tisslm.errors import DataError
from tisslm.training.evaluation import evaluate
from tisslm.training.refusals.incidents import describe

VOCAB, T = 17, 16


class Scored(TokenDataset):
    """Windows with two numbers beside their tokens, one of which is not finite."""

    def window(self, i):
        return replace(super().window(i), others={"score": np.array([i, np.nan], np.float32)})

    def batches(self, batch_size, seed, start=0):
        return Dataset.batches(self, batch_size, seed, start)


class Tuples(TokenDataset):
    def window(self, i):
        return tuple(super().window(i))


class Floats(TokenDataset):
    def window(self, i):
        window = super().window(i)
        return replace(window, x=window.x.astype(np.float32))


class Short(TokenDataset):
    def window(self, i):
        window = super().window(i)
        return replace(window, y=window.y[:-1])


class Lists(TokenDataset):
    def window(self, i):
        window = super().window(i)
        return replace(window, x=window.x.tolist())


class StreamsTuples(TokenDataset):
    def stream(self, batch_size, seed, start=0):
        yield from map(tuple, super().batches(batch_size, seed, start))


@pytest.fixture
def seen(monkeypatch):
    """Note down the other arrays of every pass."""

    def watch(model):
        found, passes = [], model.step_loss

        def step_loss(batch, *args, **options):
            found.append({name: array.tolist() for name, array in batch.others.items()})
            return passes(batch, *args, **options)

        monkeypatch.setattr(model, "step_loss", step_loss)
        return found

    return watch


def test_each_micro_batch_has_its_part_of_every_array(make_trainer, tokens, seen):
    dataset = Scored(tokens, T, vocab_size=VOCAB)
    trainer = make_trainer(parts={"dataset": dataset}, batch_size=2, gradient_accumulation_steps=2)
    found = seen(trainer.model)
    trainer.session.train_step(next(trainer.session.batches("a test")))
    numbers = [int(i) for i in dataset.order(trainer.config.seed, 0)[:4]]
    assert [score for one in found for score, _ in one["score"]] == numbers
    assert [len(one["score"]) for one in found] == [2, 2]


def test_an_evaluation_hands_them_on_too(make_trainer, tokens, seen):
    trainer = make_trainer()
    found = seen(trainer.model)
    evaluate(trainer.model, Scored(tokens, T, vocab_size=VOCAB), trainer.loss_fn, batch_size=3)
    assert [score for score, _ in found[1]["score"]] == [3, 4, 5]


def test_a_refused_step_of_the_dataset_is_known_by_its_windows(make_trainer, tokens):
    dataset = Scored(tokens, T, vocab_size=VOCAB)
    trainer = make_trainer(parts={"dataset": dataset})
    rows = next(trainer.session.batches("a test"))
    context = trainer.session._incident_context()
    numbers = dataset.order(trainer.config.seed, 0)[: len(rows.x)]
    assert describe(context, "spike", rows, 1.0, 1.0).windows == list(numbers)
    for other in (
        replace(rows, others={}),
        replace(rows, others={"score": rows.others["score"] + 1}),
    ):
        assert describe(context, "spike", other, 1.0, 1.0).windows is None


@pytest.mark.parametrize("where", ["dataset", "val_dataset"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            Tuples,
            "expected tisslm.contracts.Rows, got tuple; return Rows(x, y), or Rows(x, y, start) "
            "where rows hold several documents",
        ),
        (
            Floats,
            "expected windows of integer arrays of shape (16,), the dataset's seq_len, got x of "
            "float32 and shape (16,); return such arrays from window",
        ),
        (
            Short,
            "expected windows of integer arrays of shape (16,), the dataset's seq_len, got y of "
            "int32 and shape (15,); return such arrays from window",
        ),
        (
            Lists,
            "expected windows of integer arrays of shape (16,), the dataset's seq_len, got x of "
            "list and shape (16,); return such arrays from window",
        ),
    ],
)
def test_wrong_windows_are_refused_when_the_trainer_is_built(
    make_trainer, tokens, kind, message, where
):
    with pytest.raises(DataError) as caught:
        make_trainer(parts={where: kind(tokens, T, vocab_size=VOCAB)})
    assert str(caught.value) == f"{where}: {message}"


def test_wrong_batches_are_refused_before_the_first_step(make_trainer, tokens):
    trainer = make_trainer(parts={"dataset": StreamsTuples(tokens, T, vocab_size=VOCAB)})
    with pytest.raises(DataError) as caught:
        trainer.train()
    assert str(caught.value) == (
        "train_step: expected tisslm.contracts.Rows, got tuple; return Rows(x, y), or "
        "Rows(x, y, start) where rows hold several documents"
    )
    assert trainer.state.position == 0


def test_a_step_of_rows_is_that_of_their_arrays(make_trainer):
    ours, theirs = make_trainer(), make_trainer(folder="other")
    rows = next(ours.dataset.batches(3, 42))
    assert isinstance(rows, Rows)
    assert ours.session.train_step(rows).loss == theirs.train_step(*rows)
