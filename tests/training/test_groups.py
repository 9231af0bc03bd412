"""Runs whose parameters are trained in groups."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest
from thread_ranks import run_ranks
from tisslm_optimizers.muon import Muon

from tisslm import GroupConfig, Tuning
from tisslm.contracts import Optimizer
from tisslm.errors import ConfigError
from tisslm.models.transformer import Transformer
from tisslm.training.ranks import layout

TUNING = Tuning(
    layer_decay=0.5,
    groups=[
        GroupConfig(match="*.mlp.down.weight", weight_decay=0.3),
        GroupConfig(match="final_norm.*", lr_scale=3.0, weight_decay=0.0),
        GroupConfig(match="embedding.position.*", freeze=True),
    ],
)


@pytest.fixture
def make(make_trainer, make_model):
    """Build a run of a model that is tuned in some way."""

    def build(folder="run", tuning=TUNING, optimizer="adamw", rank="local", **config):
        shape = make_model(dropout=0.1).config
        model = Transformer(shape, seed=1, tuning=tuning)
        optimizer = optimizer(model) if callable(optimizer) else optimizer
        parts = {"model": model, "optimizer": optimizer, "communicator": rank}
        parts["scheduler"] = "constant"
        return make_trainer(folder=folder, parts=parts, **config)

    return build


def values(trainer):
    return {p.name: p.data.copy() for p in trainer.model.parameters}


def test_each_group_has_its_rate_and_its_decay(make):
    how = {"optimizer": "sgd", "max_steps": 1, "max_grad_norm": 0}
    trainer, plain = make(**how), make("plain", Tuning(), **how)
    before = values(trainer)
    trainer.train()
    plain.train()
    first, after = values(plain), values(trainer)

    def moves(name, scale, decay=0.0):
        move = (first[name] - before[name]) - decay * 1e-2 * before[name]
        np.testing.assert_allclose(after[name] - before[name], scale * move, rtol=2e-3, atol=2e-7)

    moves("embedding.token.weight", 0.125)
    moves("embedding.position.weight", 0.0)
    moves("blocks.0.attention.qkv.weight", 0.25)
    moves("blocks.0.mlp.down.weight", 0.25, 0.3)
    moves("blocks.1.mlp.down.weight", 0.5, 0.3)
    moves("final_norm.weight", 3.0)


@pytest.mark.parametrize("optimizer", ["adamw", lambda m: Muon(m.parameters, 1e-2)])
def test_such_a_run_goes_on_with_the_same_bits(make, same_bits, optimizer):
    whole = make("whole", optimizer=optimizer, save_every=2, keep_checkpoints=9)
    whole.train()
    again = make("again", optimizer=optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.load_checkpoint(whole.run.checkpoints / "checkpoint-4")
    again.train()
    assert same_bits(whole, again)
    state = json.loads((whole.run.checkpoints / "checkpoint-4/trainer_state.json").read_text())
    assert state["groups"]["blocks.1.mlp.down.weight"] == "lr_scale 0.5, weight_decay 0.3"
    assert "embedding.position.weight" not in state["groups"]


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_several_ranks_make_the_run_of_one(make, monkeypatch, optimizer):
    monkeypatch.setattr(layout, "BUCKET_BYTES", 2048 * 4)

    def train(rank):
        settings = {"global_batch_size": 6, "batch_size": 1, "reduction_parts": 6, "max_steps": 3}
        trainer = make("ranks", optimizer=optimizer, rank=rank, threads=1, **settings)
        trainer.train()
        return values(trainer)

    one = run_ranks(1, train)[0]
    for found in run_ranks(3, train):
        assert all(np.array_equal(found[name], one[name]) for name in one)


def test_other_groups_are_told_when_a_run_goes_on(make):
    first = make("first", max_steps=2)
    first.train()
    fewer = Tuning(groups=TUNING.groups[2:])
    with pytest.warns(RuntimeWarning) as told:
        make("second", fewer).load_checkpoint(first.run.checkpoints / "checkpoint-2")
    assert (
        "the run goes on under other conditions (group of embedding.token.weight: lr_scale 0.125 "
        "then, None now; "
    ) in str(told[0].message)
    assert re.search(r"; (group of [^;]*; ){2}and 24 more\)", str(told[0].message))
    plain = make("plain", fewer, max_steps=2)
    plain.train()
    with pytest.warns(RuntimeWarning, match=r"group of .*: None then, lr_scale "):
        make("third").load_checkpoint(plain.run.checkpoints / "checkpoint-2")


class Plain(Optimizer):
    """Gradient descent that knows nothing of decay."""

    def update(self, grad_scale):
        for p in self.parameters:
            if p.trainable:
                p.data[...] -= self.get_lr() * p.lr_scale * p.grad


def test_weight_decay_of_a_group_needs_an_optimizer_that_has_one(make):
    with pytest.raises(ConfigError) as caught:
        make(optimizer=lambda model: Plain(model.parameters, 1e-2))
    assert str(caught.value) == (
        "optimizer.groups: expected an optimizer that has a weight_decay, got Plain, which has "
        "none; leave weight_decay out of its groups"
    )
    rates = Tuning(layer_decay=0.5)
    make(tuning=rates, optimizer=lambda model: Plain(model.parameters, 1e-2), max_steps=2).train()
