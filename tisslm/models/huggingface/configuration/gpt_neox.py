"""The keys of GPT-NeoX: part of each head is turned, and both sublayers read one stream."""

from __future__ import annotations

from typing import Any

from tisslm.config.model import TransformerConfig
from tisslm.models.huggingface.configuration import rope
from tisslm.models.huggingface.configuration.gpt2 import ACTIVATIONS
from tisslm.models.huggingface.configuration.source import Source

__all__ = ["read", "write"]

_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu", "relu2": "relu2"}
_ROPE = rope.Keys("rotary_emb_base", "rotary_pct", 0.25)


def read(source: Source) -> dict[str, Any]:
    """Return the settings that a configuration describes."""
    length = source.count("max_position_embeddings")
    attention = source.flag("attention_bias", True)
    return {
        "n_layer": source.count("num_hidden_layers"),
        "n_head": source.count("num_attention_heads"),
        "n_embd": source.count("hidden_size"),
        "n_hidden": source.count("intermediate_size"),
        "seq_len": length,
        "activation": source.activation("hidden_act", "gelu", ACTIVATIONS),
        "norm_eps": source.number("layer_norm_eps", 1e-5),
        "qkv_bias": attention,
        "out_bias": attention,
        "dropout": source.dropout({"attention_dropout": 0.0, "hidden_dropout": 0.0}),
        "parallel_residual": source.flag("use_parallel_residual", True),
        "tie_embeddings": source.flag("tie_word_embeddings", False),
        **rope.read(source, length, _ROPE),
    }


def write(config: TransformerConfig) -> dict[str, Any] | None:
    """Return the keys of a shape; None if GPT-NeoX has none such."""
    if (
        config.norm != "layer"
        or config.positions != "rotary"
        or config.activation not in _NAMES
        or config.n_kv_head != config.n_head
        or config.head_dim * config.n_head != config.n_embd
        or config.qk_norm != "none"
        or any(config.window_of(i) for i in range(config.n_layer))
    ):
        return None
    return {
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_hidden,
        "max_position_embeddings": config.seq_len,
        "hidden_act": _NAMES[config.activation],
        "layer_norm_eps": config.norm_eps,
        "attention_bias": bool(config.qkv_bias or config.out_bias),
        "attention_dropout": config.dropout,
        "hidden_dropout": config.dropout,
        "use_parallel_residual": config.parallel_residual,
        **rope.write(config, _ROPE),
    }
