"""Training in bf16 and fp16 with the real kernels: it learns, resumes exactly, and rescales."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tolerances import MIXED_TRAINING

from tisslm import TokenDataset, ops
from tisslm.errors import ConfigError

MIXED = ["bf16", "fp16"]


@pytest.mark.parametrize("precision", MIXED)
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_resumed_equals_uninterrupted(make_trainer, same_bits, precision, checkpointing):
    config = {
        "max_steps": 11,
        "precision": precision,
        "activation_checkpointing": checkpointing,
        "loss_scale_growth_interval": 3,
        "gradient_accumulation_steps": 2,
    }
    whole = make_trainer(folder="whole", save_every=4, keep_checkpoints=0, **config)
    whole.train()
    for step in (4, 8):
        path = str(whole.run.checkpoints / f"checkpoint-{step}")
        resumed = make_trainer(folder=f"from{step}", resume=path, **config)
        assert resumed.current_step == step
        resumed.train()
        assert same_bits(whole, resumed)
        assert resumed.loss_scale == whole.loss_scale


@pytest.mark.parametrize("precision", MIXED)
def test_checkpointing_changes_no_bit_of_a_run(make_trainer, same_bits, precision):
    runs = []
    for setting in ("none", "every=2", "full"):
        trainer = make_trainer(
            folder=setting, precision=precision, activation_checkpointing=setting
        )
        trainer.train()
        runs.append(trainer)
    assert all(same_bits(runs[0], other) for other in runs[1:])


def test_precisions_differ_in_their_bits(make_trainer, same_bits):
    """Or the tests of this file would compare nothing."""
    runs = []
    for precision in ("fp32", *MIXED):
        trainer = make_trainer(folder=precision, precision=precision)
        trainer.train()
        runs.append(trainer)
    assert not same_bits(runs[0], runs[1])
    assert not same_bits(runs[0], runs[2])
    assert not same_bits(runs[1], runs[2])


def test_the_state_stays_in_float32(make_trainer):
    trainer = make_trainer(precision="bf16")
    trainer.train()
    assert trainer.model.parameters.data.dtype == trainer.model.parameters.grad.dtype == np.float32
    slots = [a for name, a in trainer.optimizer.state().items() if "/" in name]
    assert {a.dtype for a in slots} == {np.dtype(np.float32)}
    low_bits = trainer.model.parameters.data.view(np.uint32) & np.uint32(0xFFFF)
    assert low_bits.any(), "updates below the resolution of bf16 are lost"


@pytest.mark.parametrize("precision", MIXED)
def test_mixed_precision_learns_what_fp32_learns(make_trainer, precision):
    """A sentence of 29 tokens, over and over: most of it can be known from the one before."""
    period = np.random.default_rng(3).integers(0, 17, 29)
    dataset = TokenDataset(np.tile(period, 24).astype(np.uint16), 16, vocab_size=17)
    losses = {}
    for name in ("fp32", precision):
        trainer = make_trainer(
            folder=name,
            parts={"dataset": dataset},
            dropout=0.0,
            max_steps=100,
            batch_size=8,
            precision=name,
        )
        trainer.train()
        assert trainer.loss_history[0] > 2.5
        losses[name] = trainer.validate(dataset)
    assert losses["fp32"] < 0.2
    assert abs(losses[precision] - losses["fp32"]) < MIXED_TRAINING


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="kernels are what overflows here")
def test_a_large_scale_is_halved_until_fp16_holds_the_gradients(make_trainer):
    trainer = make_trainer(precision="fp16", loss_scale_init=2**24, max_steps=12)
    before = trainer.model.parameters.data.copy()
    x, y = next(trainer.dataset.batches(3, seed=42))
    trainer.train_step(x, y)
    assert not np.isfinite(trainer.compute_grad_norm())
    assert (trainer.current_step, trainer.skipped_steps) == (0, 1)
    assert np.array_equal(trainer.model.parameters.data, before)
    trainer.train()
    assert (trainer.current_step, len(trainer.loss_history)) == (12, 12)
    assert trainer.loss_scale == 2.0 ** (24 - trainer.skipped_steps) >= 2**10
    assert np.isfinite(trainer.compute_grad_norm())
    assert np.isfinite(trainer.model.parameters.data).all()
    saved = trainer.run.checkpoints / "checkpoint-12" / "trainer_state.json"
    assert json.loads(saved.read_text())["skipped_steps"] == trainer.skipped_steps


def test_a_float64_model_is_refused_before_the_run(make_trainer, make_model):
    model = make_model(dtype="float64")
    with pytest.raises(ConfigError, match="a model of float64 has no mixed precision, got 'bf16'"):
        make_trainer(parts={"model": model}, precision="bf16")


def test_validation_runs_in_the_precision_of_the_run(make_trainer, tokens):
    dataset = TokenDataset(tokens, 16, vocab_size=17)
    found = [
        make_trainer(folder=p, precision=p).validate(dataset) for p in ("fp32", "bf16", "fp16")
    ]
    assert len(set(found)) == 3
    assert found == pytest.approx([found[0]] * 3, rel=1e-3)
