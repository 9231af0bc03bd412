"""A run is planned once, and its parts are built once, whoever composes it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tisslm import Entry, TokenDataset, Trainer, TrainingConfig, Transformer, hookimpl
from tisslm.config import RunConfig
from tisslm.config.model import TransformerConfig
from tisslm.contracts import Monitor, Sink
from tisslm.optim.losses import CrossEntropy
from tisslm.optim.optimizers import SGD
from tisslm.optim.schedulers import Constant
from tisslm.registry import Registry
from tisslm.registry.discovery import Provider, load_plugins
from tisslm.workflows.build.trainer import build_trainer

BUILT: Counter[str] = Counter()


class CountedSGD(SGD):
    """Counts how often it is built: for the run, and for planning, on a few small parameters."""

    def __init__(self, parameters, lr, **options):
        super().__init__(parameters, lr, **options)
        largest = max(max(p.shape) for p in parameters)
        BUILT["optimizer" if largest > 16 else "small optimizer"] += 1


class CountedConstant(Constant):
    def __init__(self, optimizer):
        super().__init__(optimizer)
        BUILT["scheduler"] += 1


class CountedLoss(CrossEntropy):
    def __init__(self):
        super().__init__()
        BUILT["loss"] += 1


class CountedMonitor(Monitor):
    wants = frozenset({"gradients"})

    def __init__(self):
        BUILT["monitor"] += 1

    def observe(self, site, array):
        pass

    def metrics(self):
        return {}


class CountedSink(Sink):
    def __init__(self):
        BUILT["sink"] += 1

    def open(self, run):
        pass

    def write(self, step, metrics):
        pass


class Plugin:
    @hookimpl
    def tisslm_optimizers(self):
        yield Entry("counted", CountedSGD, "sgd")

    @hookimpl
    def tisslm_schedulers(self):
        yield Entry("counted", CountedConstant, "constant")

    @hookimpl
    def tisslm_losses(self):
        yield Entry("counted", CountedLoss, "cross-entropy")

    @hookimpl
    def tisslm_monitors(self):
        yield Entry("counted", CountedMonitor, "nothing")

    @hookimpl
    def tisslm_sinks(self):
        yield Entry("counted", CountedSink, "nothing")


#: An optimizer's state is measured on two sizes of small parameters, in the one plan.
ONCE = {
    "optimizer": 1,
    "small optimizer": 2,
    "scheduler": 1,
    "loss": 1,
    "monitor": 1,
    "sink": 1,
}


@pytest.fixture
def registry():
    BUILT.clear()
    manager = load_plugins()
    manager.providers["counted"] = Provider("tisslm-counted", "1.0")
    manager.register(Plugin(), "counted")
    return Registry(manager)


@pytest.fixture
def told(monkeypatch):
    """Note how often a model is prepared."""
    prepared, prepare = [], Transformer.prepare

    def noted(self, **how):
        prepared.append(how)
        prepare(self, **how)

    monkeypatch.setattr(Transformer, "prepare", noted)
    return prepared


def test_from_a_configuration(registry, told, tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 40)
    settings = {
        "data": {"path": str(tmp_path / "text.txt")},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 32, "seq_len": 16},
        "training": {
            "max_steps": 1,
            "batch_size": 2,
            "log_gradients": True,
            "activation_checkpointing": "auto",
            "output_dir": str(tmp_path / "run"),
        },
        "log": {"sinks": ["counted"], "monitors": ["counted"]},
        **{kind: {"name": "counted"} for kind in ("optimizer", "scheduler", "loss")},
    }
    trainer = build_trainer(RunConfig.from_mapping(settings), registry=registry)
    assert dict(BUILT) == ONCE
    assert told == [{"precision": "fp32", "activation_checkpointing": "none"}]
    assert [type(m).__name__ for m in trainer.monitors] == ["CountedMonitor", "GradientNorms"]
    trainer.train()
    assert dict(BUILT) == ONCE


def test_in_python(registry, told, tmp_path):
    shape = TransformerConfig(n_layer=1, n_head=2, n_embd=32, seq_len=16, vocab_size=17)
    trainer = Trainer(
        Transformer(shape),
        "counted",
        "counted",
        "counted",
        TokenDataset(np.arange(200, dtype=np.uint16) % 17, 16, vocab_size=17),
        TrainingConfig(max_steps=1, batch_size=2, output_dir=str(tmp_path)),
        sinks=["counted"],
        monitors=["counted"],
        registry=registry,
    )
    trainer.train()
    assert dict(BUILT) == ONCE
    assert told == [{"precision": "fp32", "activation_checkpointing": "none"}]


def test_what_is_planned_does_not_depend_on_who_plans(registry, tmp_path):
    """The plan of shapes, which a configuration is settled by, is that of the model."""
    shape = TransformerConfig(n_layer=1, n_head=2, n_embd=32, seq_len=16, vocab_size=17)
    (tmp_path / "text.txt").write_text("abcdefghijklmnop\n" * 80)
    settings = {
        "data": {"path": str(tmp_path / "text.txt"), "valid_fraction": 0.0},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 32, "seq_len": 16},
        "training": {
            "max_steps": 1,
            "batch_size": 2,
            "overfit_batches": 2,
            "output_dir": str(tmp_path / "run"),
        },
        "log": {"sinks": []},
    }
    config = RunConfig.from_mapping(settings)
    built = build_trainer(config, registry=registry)
    assert built.model.config == shape
    alone = Trainer(
        Transformer(shape),
        config.optimizer,
        dataset=built.dataset.whole,
        config=config.training,
        sinks=(),
        registry=registry,
    )
    assert alone.planned == built.planned
