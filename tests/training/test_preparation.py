"""How passes are run: settled once, and told to the model."""

from __future__ import annotations

import pytest

from tisslm import Transformer, ops
from tisslm.config import TrainingConfig
from tisslm.errors import ConfigError
from tisslm.memory import Parameters, ParameterSpec
from tisslm.registry import load_registry
from tisslm.training.memory_plan.planner import Planner, settle
from tisslm.training.passes import resolve_precision


class Told(Transformer):
    """Keeps what it is told."""

    def prepare(self, **how):
        self.told = [*getattr(self, "told", []), how]


def passes(model, config):
    precision = resolve_precision(config.precision)
    return settle(Planner(model, config, "sgd", load_registry(), precision=precision)).passes


@pytest.fixture
def told(make_model):
    return Told(make_model().config, seed=1)


@pytest.mark.parametrize("has", [True, False])
def test_auto_is_bf16_where_the_kernels_multiply_it(monkeypatch, has):
    monkeypatch.setattr(ops, "multiplies_bf16", lambda: has)
    assert resolve_precision("auto") == ("bf16" if has else "fp32")
    for precision in ("fp32", "bf16", "fp16"):
        assert resolve_precision(precision) == precision


def test_the_model_is_told_once_with_nothing_left_to_decide(make_trainer, told, monkeypatch):
    monkeypatch.setattr(ops, "multiplies_bf16", lambda: True)
    trainer = make_trainer(
        parts={"model": told}, use_mixed_precision=True, activation_checkpointing="every=2"
    )
    assert told.told == [{"precision": "bf16", "activation_checkpointing": "every=2"}]
    assert trainer.passes == ("bf16", "every=2")
    trainer.train()
    assert len(told.told) == 1


def test_a_second_trainer_tells_the_model_anew(make_trainer, told):
    make_trainer(parts={"model": told}, precision="bf16", activation_checkpointing="full")
    make_trainer(parts={"model": told}, folder="other")
    assert told.told[1] == {"precision": "fp32", "activation_checkpointing": "none"}


def test_auto_never_reaches_the_model(make_trainer, told):
    config = {"precision": "auto", "activation_checkpointing": "auto"}
    assert "auto" not in passes(told, TrainingConfig(**config))
    make_trainer(parts={"model": told}, **config)
    assert len(told.told) == 1
    assert "auto" not in told.told[0].values()


class Duck:
    """A model that does not derive from the contract."""

    seq_len = 4

    def __init__(self):
        self.parameters = Parameters([ParameterSpec("w", (2, 2))])


def test_a_model_without_prepare_runs_with_the_defaults_and_no_other():
    assert passes(Duck(), TrainingConfig()) == ("fp32", "none")
    for settings in ({"precision": "bf16"}, {"activation_checkpointing": "full"}):
        with pytest.raises(ConfigError, match=r"Duck has no prepare\(\), so it runs in fp32"):
            passes(Duck(), TrainingConfig(**settings))
