"""What is written with caches is what whole passes write, for every family and beyond windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig
from tisslm.models.decoding import ContextDecoder
from tisslm.models.generation import Sampling, generate

SIZES = {"n_layer": 3, "n_head": 4, "n_embd": 32, "seq_len": 40, "vocab_size": 61}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"family": "gpt2"},
    "llama": {"family": "llama", "n_kv_head": 2},
    "llama yarn": {"family": "llama", "n_kv_head": 1, "rope_scaling": YARN},
    "mistral": {"family": "mistral", "window": 7},
    "mistral in turns": {
        "family": "mistral",
        "window": 5,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "qwen2": {"family": "qwen2", "n_kv_head": 2, "logit_cap": 3.0},
    "qwen3": {"family": "qwen3", "n_kv_head": 2, "head_dim": 12},
    "qwen3 all heads": {"family": "qwen3", "qk_norm": "all"},
    "gpt_neox": {"family": "gpt_neox"},
    "no positions": {"family": "llama", "positions": "none"},
}


@pytest.fixture(params=SHAPES)
def model(request) -> Transformer:
    model = Transformer(TransformerConfig(**SIZES, **SHAPES[request.param]), seed=5)
    rng = np.random.default_rng(6)
    for parameter in model.parameters:  # large enough for every part to matter
        parameter.data[...] += 0.1 * rng.standard_normal(parameter.shape)
    return model


def test_logits_of_each_token_are_those_of_the_whole(model):
    ids = np.random.default_rng(1).integers(0, 61, (3, 40))
    whole, _ = model.forward(ids)
    decoder = model.decoder()
    found = [decoder.prefill(ids[:, :9])]
    found += [decoder.step(ids[:, t]) for t in range(9, 40)]
    error = np.abs(np.stack(found, axis=1) - whole[:, 8:]).max()
    assert error <= 1e-5 * np.abs(whole).max()  # products of one row add in another order


def test_greedy_text_is_that_of_whole_passes_beyond_the_context_too(model, monkeypatch):
    prompt, sampling = [3, 1, 4, 1, 5], Sampling(temperature=0.0)
    ours = generate(model, prompt, 80, sampling)
    monkeypatch.setattr(Transformer, "decoder", lambda self: ContextDecoder(self))
    assert generate(model, prompt, 80, sampling) == ours
