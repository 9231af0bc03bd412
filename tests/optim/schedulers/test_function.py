"""Somebody's own function of the step: by a Trainer, resumed, and what it must return."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.errors import ConfigError
from tisslm.optim.schedulers._function import Function
from tisslm.registry import load_registry


def test_it_multiplies_the_optimizers_rate(idle):
    scheduler = Function(idle(0.5), lambda step: 1 / (1 + step))
    assert [scheduler.lr_at(s) for s in range(3)] == [0.5, 0.25, 0.5 / 3]
    assert Function(idle(0.5), lambda step: np.float32(0.5)).lr_at(7) == 0.25


def test_a_function_is_a_scheduler_wherever_one_is_asked_for(idle):
    registry, optimizer = load_registry(), idle(0.5)
    scheduler = registry.build("scheduler", lambda step: 0.5**step, optimizer)
    assert isinstance(scheduler, Function)
    assert scheduler.step(3) == optimizer.get_lr() == 0.0625
    with pytest.raises(ConfigError, match=r"^optimizer: expected a name"):
        registry.build("optimizer", lambda step: 1.0)
    with pytest.raises(ConfigError, match=r"^scheduler: expected a name"):
        registry.build("scheduler", dict, optimizer)


@pytest.mark.parametrize("wrong", [-0.5, math.nan, math.inf, None, "1"])
def test_what_is_no_factor_is_named_with_its_step(idle, wrong):
    optimizer = idle(0.5)
    scheduler = Function(optimizer, lambda step: wrong if step == 3 else 1.0)
    with pytest.raises(ConfigError) as caught:
        scheduler.step(3)
    assert str(caught.value) == (
        "scheduler function: expected a finite factor >= 0 of the learning rate after 3 updates, "
        f"got {wrong!r}"
    )
    assert optimizer.get_lr() == 0.5


def test_a_function_that_fails_is_told_in_a_sentence_and_costs_no_update(trainer_by):
    """A table of as many rates as there are updates is asked for one more."""
    table = [1.0, 0.5, 0.25, 0.125]
    trainer = trainer_by(table.__getitem__, "run", save_every=0, validation_frequency=0)
    words = "after 4 updates, got IndexError: list index out of range; let the function return one"
    with pytest.raises(ConfigError, match=words):
        trainer.train()
    place = trainer.session.run.checkpoints
    assert [path.name for path in place.glob("checkpoint-*")] == ["checkpoint-4"]
    resumed = trainer_by(lambda step: 0.5**step, "again", resume=str(place / "checkpoint-4"))
    assert resumed.current_step == 4


@pytest.fixture
def trainer_by(tmp_path):
    def trainer(scheduler, folder, **more):
        shape = {"n_layer": 1, "n_head": 1, "n_embd": 8, "seq_len": 8, "vocab_size": 5}
        tokens = np.random.default_rng(0).integers(0, 5, 200, dtype=np.uint16)
        return Trainer(
            Transformer(TransformerConfig(**shape), seed=1),
            scheduler=scheduler,
            dataset=TokenDataset(tokens, 8, vocab_size=5),
            sinks=(),
            config=TrainingConfig(
                max_steps=4,
                batch_size=2,
                learning_rate=0.1,
                output_dir=str(tmp_path / folder),
                **more,
            ),
        )

    return trainer


def test_a_trainer_takes_a_function_and_a_resumed_run_goes_on_by_it(trainer_by):
    def trainer(folder, **more):
        return trainer_by(lambda step: 0.5**step, folder, **more)

    whole = trainer("whole", save_every=2, validation_frequency=0)
    whole.train()
    assert whole.scheduler.get_lr() == 0.1 * 0.5**4
    resumed = trainer("resumed", save_every=0, validation_frequency=0)
    resumed.load_checkpoint(whole.session.run.checkpoints / "checkpoint-2")
    assert resumed.optimizer.get_lr() == 0.1 * 0.5**2
    resumed.train()
    assert resumed.model.parameters.data.tobytes() == whole.model.parameters.data.tobytes()
