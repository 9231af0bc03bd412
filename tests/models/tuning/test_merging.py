"""Adapters merged in place, and taken out again to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig
from tisslm.config import AdapterConfig
from tisslm.errors import ConfigError
from tisslm.models.tuning.tuning import Tuning

SHAPE = {"n_layer": 2, "n_head": 4, "n_kv_head": 2, "n_embd": 32, "seq_len": 16, "vocab_size": 33}


def make(frozen="fp32", dtype="float32", targets=("q", "v", "down")):
    config = TransformerConfig(**SHAPE, family="llama")
    adapter = AdapterConfig(rank=4, targets=list(targets))
    model = Transformer(config, dtype=dtype, tuning=Tuning((), frozen, adapter))
    rng = np.random.default_rng(0)
    for p in model.parameters:
        if p.trainable:
            p.data[...] = rng.normal(scale=0.1, size=p.shape)
    return model


def bits(model):
    return {p.name: p.data.tobytes() for p in model.parameters}


X = np.random.default_rng(1).integers(0, 33, (2, 9))


@pytest.mark.parametrize(
    ("frozen", "dtype", "bound"),
    [("fp32", "float32", 1e-5), ("fp32", "float64", 1e-12), ("bf16", "float32", 2e-2)],
)  # bf16: every weight that has an adapter is rounded to 2^-9
def test_merged_weights_say_the_same_and_come_back_to_the_bit(frozen, dtype, bound):
    model = make(frozen, dtype)
    before, expected = bits(model), model.forward(X)[0]
    with model.merged() as merged:
        found = merged.forward(X)[0]
        changed = {name for name, values in bits(model).items() if values != before[name]}
        decoder = merged.decoder() if dtype == "float32" else None
        if decoder is not None:
            assert np.allclose(decoder.prefill(X), found[:, -1], atol=1e-4)
    scale = abs(expected).max()
    assert abs(found - expected).max() < bound * scale
    parts = ("attention.qkv.weight", "mlp.down.weight")
    assert changed == {f"blocks.{i}.{part}" for i in range(2) for part in parts}
    assert bits(model) == before
    assert model.forward(X)[0].tobytes() == expected.tobytes()


def test_a_decoder_of_two_bytes_has_them_merged():
    model = make()
    expected = model.forward(X)[0][:, -1]
    with model.merged() as merged:
        found = merged.decoder("bf16").prefill(X)
    assert abs(found - expected).max() < 0.05 * abs(expected).max()
    plain = Transformer(model.config).forward(X)[0][:, -1]
    assert abs(plain - expected).max() > 0.2 * abs(expected).max()


def test_whatever_happens_the_weights_come_back():
    model = make()
    before = bits(model)
    with pytest.raises(KeyError), model.merged():
        raise KeyError
    assert bits(model) == before


def test_adapters_are_not_merged_twice():
    model = make()
    before = bits(model)
    with model.merged() as merged:
        with merged.merged() as again:
            assert again is merged
        with pytest.raises(ConfigError, match="got them merged already; use"), model.merged():
            pass
    assert bits(model) == before
    with model.merged():
        assert bits(model) != before


def test_without_adapters_there_is_nothing_to_merge():
    model = Transformer(TransformerConfig(**SHAPE, family="llama"))
    with model.merged() as merged:
        assert merged is model
