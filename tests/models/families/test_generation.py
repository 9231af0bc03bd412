"""What is written with caches is what whole passes write, for every family and beyond windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig
from tisslm.models.decoding import ContextDecoder
from tisslm.models.generation import Generation, Sampling, generate
from tisslm.ops.reference.storage import store, widen

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
    monkeypatch.setattr(Transformer, "decoder", lambda self, weights="fp32": ContextDecoder(self))
    assert generate(model, prompt, 80, sampling) == ours


#: Shorter and longer than a window, one id alone, the whole context, and beyond it.
PROMPTS = [[3, 1, 4, 1, 5], [9], list(range(12)), list(range(40)), list(range(47)), [2, 7] * 9]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_texts_of_a_batch_are_those_alone(model, temperature):
    """Rows end by an id, and their contexts are full, at different steps."""
    draws = [Sampling(temperature, seed=row) for row in range(len(PROMPTS))]
    alone = [
        generate(model, prompt, 60, draw, ends=(5, 11))
        for prompt, draw in zip(PROMPTS, draws, strict=True)
    ]
    together: list[list[int]] = [[] for _ in PROMPTS]
    for row, token in Generation(model, PROMPTS, 60, draws, ends=(5, 11)):
        together[row].append(token)
    assert together == alone
    assert not {5, 11} & {token for text in together for token in text}


def test_what_one_row_gets_has_the_same_bits_beside_others(model):
    """Of decoded tokens, whose sums have one order; a prompt's products are another matter."""
    ids = np.random.default_rng(1).integers(0, 61, (5, 30))
    decoder, found = model.decoder(), []
    decoder.prefill(ids[:, :1])
    found = [decoder.step(ids[:, t]) for t in range(1, 30)]
    for row in (0, 3):
        one = model.decoder()
        one.prefill(ids[:, :1])
        for t in range(1, 30):
            step = np.where(np.arange(5) == row, ids[:, t], -1)
            assert one.step(step)[row].tobytes() == found[t - 1][row].tobytes()


def test_a_decoder_of_bf16_weights_is_the_model_with_rounded_matrices(model):
    rounded = Transformer(model.config, seed=5)
    for parameter in rounded.parameters:
        values = model.parameters[parameter.name].data
        if values.ndim == 2 and not parameter.name.startswith("embedding."):
            bits = np.empty(values.shape, np.uint16)
            store(bits, values)
            values = widen(bits)
        parameter.data[...] = values
    if model.config.tie_embeddings:
        pytest.skip("rows of the table that is also the output matrix are not rounded")
    ids = np.random.default_rng(1).integers(0, 61, (3, 40))
    stored, plain = model.decoder(weights="bf16"), rounded.decoder()
    for decoder in (stored, plain):
        decoder.prefill(ids[:, :9], np.array([9, 4, 1]))
    errors = []
    for t in range(9, 25):
        left, right = (decoder.step(ids[:, t]) for decoder in (stored, plain))
        errors.append(np.abs(left - right).max() / np.abs(right).max())
    assert max(errors) <= 1e-5  # float32 sums in another order
    exact = model.decoder()
    exact.prefill(ids[:, :9], np.array([9, 4, 1]))
    assert np.abs(exact.step(ids[:, 9]) - left).max() > 1e-4, "rounding is seen"
