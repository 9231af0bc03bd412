"""Small models of every kind that a GGUF file can say, and files of them."""

from __future__ import annotations

import json
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


def pieces_tokenizer(text: str) -> dict[str, Any]:
    """Return a tokenizer.json as that of Llama 2 is, trained on a text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    spaces = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    inner.normalizer = normalizers.Sequence(spaces)
    inner.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    inner.train_from_iterator([text], trainer)
    content: dict[str, Any] = json.loads(inner.to_str())
    content["added_tokens"] = [one for one in content["added_tokens"] if one["id"] < 3]
    return content


def sentence_pieces(content: dict[str, Any]) -> tuple[list[str], list[float], list[int]]:
    """Return tokens, scores and types of such a tokenizer, as GGUF has them."""
    tokens = sorted(content["model"]["vocab"], key=content["model"]["vocab"].get)
    merges = ["".join(pair) for pair in content["model"]["merges"]]
    scores = [-float(merges.index(token)) if token in merges else 0.0 for token in tokens]
    return tokens, scores, [2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)]
