"""Optimizers that train at other values than they evaluate: who is given which, and when."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import TokenDataset
from tisslm.contracts import Optimizer


class Halfway(Optimizer):
    """Gradient descent that is evaluated between the last two of its points."""

    has_average = True

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr)
        self.kept = np.zeros_like(parameters.data)
        self.seen = []

    def show_average(self, shown):
        if self.parameters.updates:  # before, both are the same
            now = self.parameters.data.copy()
            self.parameters.data[...] = self.kept
            self.kept[...] = now
        self.shows_average = shown

    def update(self, grad_scale):
        self.seen.append(self.shows_average)
        data, before = self.parameters.data, self.parameters.data.copy()
        data -= self.get_lr() * self.parameters.grad * data.dtype.type(grad_scale)
        self.kept[...] = (before + data) / 2

    def state(self):
        return self.parameters.by_parameter({"kept": self.kept})


@pytest.fixture
def make(make_trainer, make_model, tokens):
    def make(**config):
        model = make_model()
        optimizer = Halfway(model.parameters, 1e-2)
        validation = TokenDataset(tokens[:200], 16, vocab_size=17)
        parts = {"model": model, "optimizer": optimizer, "val_dataset": validation}
        return make_trainer(parts=parts, **config)

    return make


def test_an_update_is_made_where_gradients_were_taken_however_often_the_run_evaluates(make):
    plain, looks = make(folder="plain"), make(folder="looks", validation_frequency=1, save_every=1)
    for trainer in (plain, looks):
        trainer.train()
        assert trainer.optimizer.seen == [False] * 6
        assert trainer.optimizer.shows_average
    assert plain.loss_history == looks.loss_history
    assert plain.model.parameters.data.tobytes() == looks.model.parameters.data.tobytes()


def test_what_is_saved_is_the_average_and_training_goes_on_from_the_rest(make):
    whole = make(folder="whole", save_every=3)
    whole.train()
    resumed = make(folder="resumed")
    resumed.load_checkpoint(whole.session.run.checkpoints / "checkpoint-3")
    assert resumed.optimizer.shows_average
    resumed.train()
    assert resumed.model.parameters.data.tobytes() == whole.model.parameters.data.tobytes()
    assert resumed.loss_history == whole.loss_history


def test_evaluations_are_of_the_average(make):
    trainer = make(validation_frequency=3)
    trainer.train()
    loss = trainer.validate(trainer.val_dataset)
    assert trainer.state.evaluation["eval/loss"] == pytest.approx(loss, rel=1e-6)
    trainer.zero_gradients()
    assert not trainer.optimizer.shows_average
    elsewhere = trainer.session.parts.model.parameters.data.copy()
    trainer.validate(trainer.val_dataset)
    assert not np.array_equal(elsewhere, trainer.model.parameters.data)


def test_a_checkpoint_is_taken_over_in_the_midst_of_training(make):
    whole = make(folder="whole", save_every=3)
    whole.train()
    busy = make(folder="busy")
    rows = next(iter(busy.session.batches("test")))
    for _ in range(2):
        busy.session.train_step(rows)
    assert not busy.optimizer.shows_average
    busy.load_checkpoint(whole.session.run.checkpoints / "checkpoint-3")
    busy.train()
    assert busy.model.parameters.data.tobytes() == whole.model.parameters.data.tobytes()
