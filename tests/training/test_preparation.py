"""How passes are run: settled once, and told to the model."""

from __future__ import annotations

import pytest

from tisslm import Trainer, Transformer, ops
from tisslm.config import TrainingConfig
from tisslm.contracts import Model
from tisslm.errors import ConfigError
from tisslm.memory import Parameters, ParameterSpec
from tisslm.registry import load_registry
from tisslm.training.memory_plan.passes import resolve_precision
from tisslm.training.memory_plan.planner import Planner, settle


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


class Plain(Model):
    """A model with no more than the contract asks for."""

    vocab_size = seq_len = 4

    def __init__(self):
        self.parameters = Parameters([ParameterSpec("w", (2, 2))])

    def forward(self, x, *, train=False, start=None):
        return x, None

    def backward(self, d_logits, cache):
        pass

    def step_loss(self, batch, loss, *, gradient=True, train=True, first_row=0):
        return 0.0


def test_a_model_without_prepare_runs_with_the_defaults_and_no_other():
    assert passes(Plain(), TrainingConfig()) == ("fp32", "none")
    for settings in ({"precision": "bf16"}, {"activation_checkpointing": "full"}):
        with pytest.raises(ConfigError, match=r"Plain has no prepare\(\) of its own"):
            passes(Plain(), TrainingConfig(**settings))


def test_what_keeps_no_contract_is_refused_by_name(make_model, tmp_path):
    config = TrainingConfig(output_dir=str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        Trainer(object(), config=config, sinks=())
    assert str(caught.value) == (
        "Trainer: model: expected a tisslm.contracts.Model, got object; derive its class from it"
    )
    with pytest.raises(ConfigError, match=r"Trainer: val_dataset: .*contracts.Dataset, got list"):
        Trainer(make_model(), config=config, val_dataset=[1], sinks=())


def test_a_config_that_is_no_shape_is_refused_before_the_run(tmp_path):
    model = Plain()
    model.config = {"n_layer": 2}
    with pytest.raises(ConfigError) as caught:
        Trainer(model, config=TrainingConfig(output_dir=str(tmp_path)), sinks=())
    assert str(caught.value) == (
        "model Plain: expected its config to have vocab_size, seq_len and values(), as "
        "tisslm.contracts.ModelConfig says, got dict; write them, or call the attribute otherwise"
    )
