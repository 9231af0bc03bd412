"""The keys of GPT-2: learned positions, one width of heads, biases everywhere."""

from __future__ import annotations

from typing import Any

from tisslm.config.model import TransformerConfig
from tisslm.models.huggingface.configuration.source import Source

__all__ = ["ACTIVATIONS", "read", "write"]

#: Activations without a gate, by their names there; several names mean the same.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu2": "relu2",
}
_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu", "relu2": "relu2"}

#: Sizes by our names, and what they are called there: the first is what files have.
_SIZES = {
    "n_layer": ("n_layer", "num_hidden_layers"),
    "n_head": ("n_head", "num_attention_heads"),
    "n_embd": ("n_embd", "hidden_size"),
    "seq_len": ("n_positions", "max_position_embeddings"),
}
_DROPOUTS = {"embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1}


def read(source: Source) -> dict[str, Any]:
    """Return the settings that a configuration describes."""
    sizes = {}
    for ours, (name, other) in _SIZES.items():
        sizes[ours] = source.count(name, source.count(other) if other in source else None)
        if other in source and source.count(other) != sizes[ours]:
            source.refuse(other, f"{name} = {sizes[ours]}, of which it is another name")
    source.must_be("scale_attn_weights", True)
    source.must_be("scale_attn_by_inverse_layer_idx", False)
    return {
        **sizes,
        "n_hidden": source.count("n_inner", 4 * sizes["n_embd"]),
        "activation": source.activation("activation_function", "gelu_new", ACTIVATIONS),
        "norm_eps": source.number("layer_norm_epsilon", 1e-5),
        "dropout": source.dropout(_DROPOUTS),
        "tie_embeddings": source.flag("tie_word_embeddings", True),
    }


def write(config: TransformerConfig) -> dict[str, Any] | None:
    """Return the keys of a shape; None if GPT-2 has none such."""
    if (
        config.norm != "layer"
        or config.positions != "learned"
        or config.activation not in _NAMES
        or config.n_kv_head != config.n_head
        or config.head_dim * config.n_head != config.n_embd
        or config.qk_norm != "none"
        or config.parallel_residual
        or any(config.window_of(i) for i in range(config.n_layer))
    ):
        return None
    return {
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "n_positions": config.seq_len,
        "n_ctx": config.seq_len,  # nothing of transformers reads it, and others do
        "n_inner": config.n_hidden,
        "activation_function": _NAMES[config.activation],
        "layer_norm_epsilon": config.norm_eps,
        **dict.fromkeys(_DROPOUTS, config.dropout),
        "scale_attn_weights": True,
    }
