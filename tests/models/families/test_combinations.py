"""Keys of a shape in combinations that nobody has thought of: refused in a sentence, or a model.

A model is one if a step's loss and gradients are finite, its buffers are as large as was planned,
token after token gives what the whole row gives, and what a checkpoint keeps builds it again.
"""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig
from tisslm.contracts import Batch
from tisslm.errors import ConfigError
from tisslm.optim.losses import CrossEntropy

SIZES: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 12, "seq_len": 9, "vocab_size": 17}

LINEAR = {"type": "linear", "factor": 2}
LLAMA3 = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}

VALUES: dict[str, list[Any]] = {
    "family": ["gpt2", "llama", "qwen2", "qwen3", "gpt_neox", ["llama"]],
    "n_layer": [1, 3],
    "n_head": [1, 3, 6],
    "n_embd": [1, 6, 24, 30],
    "n_kv_head": [0, 1, 2, None, True],
    "head_dim": [0, 1, 2, 6, 10, 80, 96, 1e1, "6"],
    "n_hidden": [1, 5, 64, float("nan")],
    "vocab_size": [1, 2],
    "seq_len": [1, 2],
    "norm": ["rms", "layer", ["rms"]],
    "norm_eps": [1, 0],
    "bias": [True, False, None],
    "qkv_bias": [True, "x"],
    "norm_bias": [True, False],
    "positions": ["learned", "rotary", "none", ["none"], True],
    "rope_theta": [1.5, 1e6, float("nan"), None],
    "rotary_fraction": [1.0, 0.5, 0.25, 0],
    "rope_scaling": [{}, LINEAR, {"rope_type": "yarn", "factor": 4}, LLAMA3, [1], {1: 2}],
    "window": [1, 2, 8, 9, 10, 2**40, -1, [4]],
    "layer_types": [
        ["sliding_attention"],
        ["full_attention", "sliding_attention"],
        [],
        [None],
        "x",
    ],
    "qk_norm": ["head", "all", 1, ["head"]],
    "logit_cap": [1, 5.0, None, float("nan"), 1e39, 1e-46],
    "mup_base_width": [0, 6, 12, None, -1, 2**40],
    "mup_base_head_dim": [0, 3, True],
    "parallel_residual": [True, None],
    "activation": ["swiglu", "gelu", "relu2", "geglu_tanh", [], {"a": 1}],
    "tie_embeddings": [True, False, 0],
    "dropout": [0.3],
}


@pytest.mark.parametrize("seed", range(8))
def test_any_combination_is_refused_in_a_sentence_or_is_a_model(seed: int) -> None:
    rng, made = random.Random(seed), 0
    for _ in range(60):
        keys = rng.sample(list(VALUES), rng.randint(1, 4))
        given = {**SIZES, **{key: rng.choice(VALUES[key]) for key in keys}}
        config = shape_or_refusal(given)
        if isinstance(config, str):
            assert config.startswith("model."), given
            assert "\n" not in config, given
            continue
        check(config, rng)
        made += 1
    assert made >= 10


def shape_or_refusal(given: dict[str, Any]) -> TransformerConfig | str:
    try:
        return TransformerConfig(**given)
    except ConfigError as error:
        return str(error)


def check(config: TransformerConfig, rng: random.Random) -> None:
    kept = json.loads(json.dumps(config.values()))
    assert TransformerConfig(family=config.family, **kept) == config
    model = Transformer(config, seed=1)
    model.prepare(activation_checkpointing=rng.choice(["none", "full", "every=2"]))
    shape = batch, time = rng.randint(1, 3), rng.randint(1, config.seq_len)
    draw = np.random.default_rng(rng.randrange(2**32))
    x, y = draw.integers(0, config.vocab_size, (2, *shape), dtype=np.int32)
    weights = np.full(shape, 1 / x.size, np.float32)
    assert np.isfinite(model.step_loss(Batch(x, y, weights), CrossEntropy())), config
    assert np.isfinite(model.parameters.grad).all(), config
    planned = sum(nbytes for name, nbytes in model.plan(batch, time).items() if name != "rotary")
    assert planned == model.body.memory.workspace.nbytes, config
    whole = model.forward(x)[0][:, -1].copy()
    decoder = model.decoder()
    last = decoder.prefill(x[:, :1])
    for t in range(1, time):
        last = decoder.step(x[:, t])
    # float32 sums in another order: logits are below 1, and sums of up to 96 products
    np.testing.assert_allclose(last, whole, atol=1e-5, err_msg=str(config))
