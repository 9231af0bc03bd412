"""Adapters beside frozen maps: derivatives, dropout, decoding, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig
from tisslm.config import AdapterConfig, GroupConfig
from tisslm.contracts import Batch, target_weights
from tisslm.errors import ConfigError
from tisslm.models.tuning.tuning import Tuning
from tisslm.optim.losses.cross_entropy import CrossEntropy

SHAPE = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": 16, "vocab_size": 33}
LLAMA = {"family": "llama", "activation": "swiglu", "norm": "rms", "positions": "rotary"}
LLAMA |= {"bias": False, "n_kv_head": 2, "head_dim": 12}
MADE = {
    "gpt2": ({}, ["qkv", "o", "up", "down"]),
    "llama": (LLAMA, ["q", "k", "v", "o", "gate", "up", "down"]),
    "parallel": ({"parallel_residual": True}, ["q", "v", "up", "down"]),
}


def make(kind="llama", dtype="float32", frozen="fp32", dropout=0.0, **adapter):
    shape, targets = MADE[kind]
    config = TransformerConfig(**{**SHAPE, **shape, "dropout": dropout})
    options = {"rank": 4, "targets": targets, "dropout": dropout, **adapter}
    tuning = Tuning(frozen_precision=frozen, adapter=AdapterConfig(**options))
    model = Transformer(config, dtype=dtype, tuning=tuning)
    rng = np.random.default_rng(0)
    for p in model.parameters:
        values = rng.normal(scale=0.1, size=p.shape)
        if p.trainable:
            p.data[...] = values.astype(np.float32)
    return model


def run(model, rows=slice(None), first=0, train=True):
    x, y = np.random.default_rng(1).integers(0, 33, (2, 3, 16)).astype(np.int32)
    weights = target_weights(y, model.dtype)
    batch = Batch(x[rows], y[rows], weights[rows])
    loss = model.step_loss(batch, CrossEntropy(), train=train, first_row=first)
    return loss, {p.name: p.grad.copy() for p in model.parameters if p.trainable}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", list(MADE))
def test_gradients_are_derivatives_in_float64(kind, dropout):
    model = make(kind, "float64", dropout=dropout)
    _, gradients = run(model)
    rng = np.random.default_rng(2)
    for p in (p for p in model.parameters if p.trainable):
        at = tuple(rng.integers(0, n) for n in p.shape)
        value, step = p.data[at], 1e-5
        found = []
        for sign in (1, -1):
            p.data[at] = value + sign * step
            found.append(run(model)[0])
            model.parameters.zero_grad()
        p.data[at] = value
        expected = (found[0] - found[1]) / (2 * step)
        assert gradients[p.name][at] == pytest.approx(expected, rel=1e-5, abs=1e-8), p.name


@pytest.mark.parametrize(
    ("precision", "bound"), [("fp32", 1e-5), ("bf16", 0.16), ("fp16", 0.02)]
)  # gradients are small sums of numbers that are stored in two bytes; bf16 has three bits fewer
@pytest.mark.parametrize("kind", list(MADE))
def test_kernels_follow_the_twins_in_every_precision(kind, precision, bound):
    single, double = make(kind, dropout=0.2), make(kind, "float64", dropout=0.2)
    for p in double.parameters:
        p.fill(..., single.parameters[p.name].data)
    single.prepare(precision=precision)
    (loss, found), (expected_loss, expected) = run(single), run(double)
    assert loss == pytest.approx(expected_loss, rel=bound / 10)
    for name, gradient in expected.items():
        assert abs(found[name] - gradient).max() < bound * abs(gradient).max(), name


def test_a_pass_has_the_bits_of_its_micro_batches_and_of_recomputation():
    """Dropout of a row is keyed by its number in the update."""
    model = make(dropout=0.3)
    loss, whole = run(model)
    model.parameters.zero_grad()
    parts = [run(model, slice(i, i + 1), first=i) for i in range(3)]
    assert sum(part[0] for part in parts) == pytest.approx(loss, rel=1e-6)
    for name, gradient in parts[-1][1].items():  # the last has what came before added
        assert np.allclose(gradient, whole[name], atol=1e-6 * abs(whole[name]).max())
    model.prepare(activation_checkpointing="full")
    model.parameters.zero_grad()
    again = run(model)[1]
    assert all(again[name].tobytes() == whole[name].tobytes() for name in whole)


def test_an_adapter_begins_by_adding_nothing():
    shape, targets = MADE["llama"]
    config = TransformerConfig(**{**SHAPE, **shape})
    plain = Transformer(config)
    adapted = Transformer(config, tuning=Tuning(adapter=AdapterConfig(targets=targets)))
    x = np.arange(16)[None] % 33
    assert plain.forward(x)[0].tobytes() == adapted.forward(x)[0].tobytes()
    first = adapted.parameters["blocks.0.attention.qkv.q.lora_a"].data
    assert 0.9 < abs(first).max() * np.sqrt(32) <= 1.0
    trained = [p.name for p in adapted.parameters if p.trainable]
    assert len(trained) == 2 * 2 * len(targets)


@pytest.mark.parametrize("kind", list(MADE))
def test_a_decoder_says_what_forward_says(kind):
    model = make(kind)
    x = np.random.default_rng(3).integers(0, 33, (2, 9))
    expected = model.forward(x)[0]
    for weights, bound in (("fp32", 1e-4), ("bf16", 0.1)):
        decoder = model.decoder(weights)
        assert np.allclose(decoder.prefill(x[:, :8]), expected[:, 7], atol=bound)
        assert np.allclose(decoder.step(x[:, 8]), expected[:, 8], atol=bound)


def test_the_scale_of_rslora():
    assert AdapterConfig(rank=16, alpha=8.0).scale == 0.5
    assert AdapterConfig(rank=16, alpha=8.0, rslora=True).scale == 2.0


def test_scratch_is_planned():
    model = make(dropout=0.1)
    widest = model.config.n_hidden
    assert model.plan(2, 16)["scratch.adapters"] == 2 * 4 * 1024 * (4 + widest)
    assert make().plan(2, 16)["scratch.adapters"] == 2 * 4 * 1024 * 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"targets": ["q", "head"]},
            "adapter.targets: expected different names out of q, k, v, qkv, o, gate, up, down, and "
            "qkv without q, k and v, got ['q', 'head']",
        ),
        ({"targets": ["qkv", "q"]}, "qkv without q, k and v"),
        ({"targets": []}, "expected different names"),
        ({"kind": "dora"}, "adapter.kind: expected \"lora\", got 'dora'"),
        ({"rank": 0}, "adapter.rank: expected an integer >= 1, got 0"),
        ({"dropout": 1.0}, "adapter.dropout: expected a number from 0 up to 1, without 1, got 1.0"),
    ],
)
def test_settings_that_are_refused(given, words):
    with pytest.raises(ConfigError) as caught:
        AdapterConfig(**given)
    assert words.replace("'", '"') in str(caught.value).replace("'", '"')


def test_what_a_model_has_no_place_for_is_refused():
    with pytest.raises(ConfigError, match=r"at most 24, the smaller side of k of blocks.0"):
        make(rank=25)
    with pytest.raises(ConfigError, match="expected maps that a model of the family gpt2 with act"):
        make("gpt2", targets=["gate"])


def test_matrices_of_adapters_have_rates_of_their_own():
    adapter = AdapterConfig(rank=4, targets=["q"])
    faster = GroupConfig(match="*.lora_b", lr_scale=16.0)
    config = TransformerConfig(**SHAPE)
    tuning = Tuning(adapter=adapter, groups=[faster], layer_decay=0.5)
    found = {s.name: s.lr_scale for s in tuning.specs(config) if s.trainable}
    assert found == {
        "blocks.0.attention.qkv.q.lora_a": 0.25,
        "blocks.0.attention.qkv.q.lora_b": 4.0,
        "blocks.1.attention.qkv.q.lora_a": 0.5,
        "blocks.1.attention.qkv.q.lora_b": 8.0,
    }
    with pytest.raises(
        ConfigError, match=r"groups\[0\]: expected something that is trained, got 6 "
    ):
        Tuning(
            adapter=adapter, groups=[GroupConfig(match="blocks.0.*.weight", lr_scale=2.0)]
        ).specs(config)
