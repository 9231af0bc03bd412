"""Small models of every kind that a GGUF file can say, and files of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tisslm import Transformer, TransformerConfig

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}

SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": 48, "vocab_size": 300}

CASES: dict[str, dict[str, Any]] = {
    "gpt2": {"family": "gpt2"},
    "gpt2 untied": {"family": "gpt2", "tie_embeddings": False, "activation": "gelu_tanh"},
    "llama": {"family": "llama"},
    "llama tied": {"family": "llama", "tie_embeddings": True, "n_kv_head": 2},
    "llama biases": {"family": "llama", "bias": True, "norm_bias": False, "n_kv_head": 2},
    "llama wide heads": {"family": "llama", "head_dim": 24, "n_kv_head": 1},
    "llama llama3": {"family": "llama", "head_dim": 64, "rope_scaling": LLAMA3},
    "llama linear": {"family": "llama", "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "llama yarn": {"family": "llama", "rope_scaling": YARN},
    "qwen2": {"family": "qwen2", "n_kv_head": 2},
    "qwen3": {"family": "qwen3", "n_kv_head": 2, "head_dim": 16, "tie_embeddings": True},
    "gpt_neox": {"family": "gpt_neox"},
    "gpt_neox in turns": {
        "family": "gpt_neox", "parallel_residual": False, "rotary_fraction": 1.0,
    },
}  # fmt: skip


def model_of(case: str, **others: Any) -> Transformer:
    """Return a model whose every part matters."""
    model = Transformer(TransformerConfig(**{**SIZES, **CASES[case], **others}), seed=1)
    rng = np.random.default_rng(1)
    for p in model.parameters:
        p.data[...] = 0.2 * rng.standard_normal(p.shape) + p.name.endswith("norm.weight")
    return model
