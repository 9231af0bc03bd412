"""The keys of Llama and what came of it, Mistral, Qwen2 and Qwen3, which differ in few."""

from __future__ import annotations

from typing import Any

from tisslm.config.model import TransformerConfig
from tisslm.models.huggingface.configuration import rope, windows
from tisslm.models.huggingface.configuration.source import Source

__all__ = ["read", "write"]

#: Activations of a gate, by their names there; several names mean the same.
_ACTIVATIONS = {
    "silu": "swiglu",
    "swish": "swiglu",
    "gelu": "geglu",
    "gelu_new": "geglu_tanh",
    "gelu_pytorch_tanh": "geglu_tanh",
    "gelu_fast": "geglu_tanh",
}
_NAMES = {"swiglu": "silu", "geglu": "gelu", "geglu_tanh": "gelu_pytorch_tanh"}

_ROPE = rope.Keys("rope_theta", "partial_rotary_factor", 1.0)

#: What its class takes where a file does not say it; null means one for each head.
_SHARED_HEADS = {"mistral": 8, "qwen2": 32, "qwen3": 32}
_HEAD_DIM = {"qwen3": 128}

#: Who has windows, and who a flag for the biases of attention.
_WINDOWS, _BIASES = ("mistral", "qwen2", "qwen3"), ("llama", "qwen3")


def read(source: Source) -> dict[str, Any]:
    """Return the settings that a configuration describes."""
    family = source.get("model_type")
    layers, heads, width = (
        source.count(key) for key in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    shared = heads if "num_key_value_heads" in source else _SHARED_HEADS.get(family, heads)
    size = 0 if "head_dim" in source else _HEAD_DIM.get(family, 0)
    length = source.count("max_position_embeddings")
    if source.get("head_dim") is None and not size and width % heads:
        source.refuse("hidden_size", f"a multiple of num_attention_heads = {heads}, or a head_dim")
    found = {
        "n_layer": layers,
        "n_head": heads,
        "n_embd": width,
        "n_kv_head": source.count("num_key_value_heads", shared),
        "head_dim": source.count("head_dim", size or width // heads or 1),
        "n_hidden": source.count("intermediate_size"),
        "seq_len": length,
        "activation": source.activation("hidden_act", "silu", _ACTIVATIONS),
        "norm_eps": source.number("rms_norm_eps", 1e-6),
        "dropout": source.dropout({"attention_dropout": 0.0}, everywhere=False),
        "tie_embeddings": source.flag("tie_word_embeddings", False),
        **_biases(source, family),
        **rope.read(source, length, _ROPE),
    }
    if found["rotary_fraction"] != 1:
        source.refuse("partial_rotary_factor", "1, as this family has it", "use another model")
    if family in _WINDOWS:
        found |= windows.read(source, family, layers)
    return found


def _biases(source: Source, family: str) -> dict[str, bool]:
    if family == "qwen2":
        return {"qkv_bias": True, "out_bias": False, "mlp_bias": False}
    attention = family in _BIASES and source.flag("attention_bias", False)
    mlp = family == "llama" and source.flag("mlp_bias", False)
    return {"qkv_bias": attention, "out_bias": attention, "mlp_bias": mlp}


def write(config: TransformerConfig) -> dict[str, Any] | None:
    """Return the keys of a shape; None if its family has none such."""
    family = config.family
    sliding = windows.write(config) if family in _WINDOWS else {}
    if (
        config.norm != "rms"
        or config.positions != "rotary"
        or config.rotary_fraction != 1
        or config.activation not in _NAMES
        or config.parallel_residual
        or config.qk_norm != ("head" if family == "qwen3" else "none")
        or not _can_have_biases(config)
        or sliding is None
        or (family == "llama" and not _can_be_llama(config))
    ):
        return None
    found = {
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "hidden_size": config.n_embd,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_dim,
        "intermediate_size": config.n_hidden,
        "max_position_embeddings": config.seq_len,
        "hidden_act": _NAMES[config.activation],
        "rms_norm_eps": config.norm_eps,
        "attention_dropout": config.dropout,
        **sliding,
        **rope.write(config, _ROPE),
    }
    if family in _BIASES:
        found["attention_bias"] = bool(config.qkv_bias or config.out_bias)
    if family == "llama":
        found["mlp_bias"] = bool(config.mlp_bias)
    return found


def _can_have_biases(config: TransformerConfig) -> bool:
    """Return whether the family has each bias that a shape has; others are written as zeros."""
    family = config.family
    return (
        (not config.qkv_bias or family != "mistral")
        and (not config.out_bias or family in _BIASES)
        and (not config.mlp_bias or family == "llama")
    )


def _can_be_llama(config: TransformerConfig) -> bool:
    windowed = any(config.window_of(i) for i in range(config.n_layer))
    return not windowed and config.n_embd % config.n_head == 0
