"""Models of Hugging Face transformers with our shapes and weights, as an oracle for the families.

The names are mapped here by hand, apart from any mapping of the package.

References
----------
transformers 5.24, the modules ``modeling_<family>.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import TransformerConfig
from tisslm.models.rotary import RotaryTable

__all__ = ["gradients_of", "peer_of"]

Array = NDArray[Any]

#: A family's prefix of all names below the head, and the class of its models.
CLASSES = {
    "gpt2": ("transformer", "GPT2"),
    "llama": ("model", "Llama"),
    "mistral": ("model", "Mistral"),
    "qwen2": ("model", "Qwen2"),
    "qwen3": ("model", "Qwen3"),
    "gpt_neox": ("gpt_neox", "GPTNeoX"),
}
ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "swiglu": "silu", "geglu": "gelu"}


def settings(config: TransformerConfig) -> dict[str, Any]:
    """Return the keyword arguments of the family's configuration there."""
    common = {
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if not config.causal:
        common["is_causal"] = False
    activation = ACTIVATIONS[config.activation]
    if config.family == "gpt2":
        return common | {
            "n_embd": config.n_embd,
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "n_inner": config.n_hidden,
            "n_positions": config.seq_len,
            "activation_function": activation,
            "layer_norm_epsilon": config.norm_eps,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }
    rope = {"rope_type": "default", **(config.rope_scaling or {}), "rope_theta": config.rope_theta}
    common |= {
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_hidden,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "max_position_embeddings": config.seq_len,
        "hidden_act": activation,
        "rope_parameters": rope,
    }
    if config.family == "gpt_neox":
        rope["partial_rotary_factor"] = config.rotary_fraction
        return common | {
            "layer_norm_eps": config.norm_eps,
            "use_parallel_residual": config.parallel_residual,
            "attention_bias": config.qkv_bias,
        }
    common |= {
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.norm_eps,
    }
    if config.family == "llama":
        common |= {"attention_bias": config.qkv_bias, "mlp_bias": config.mlp_bias}
    if config.family == "mistral":
        common |= {"sliding_window": config.window or None}
    if config.family in ("qwen2", "qwen3"):
        kinds = ["sliding_attention", "full_attention"]
        layers = [kinds[config.window_of(i) == 0] for i in range(config.n_layer)]
        common |= {
            "use_sliding_window": config.window > 0,
            "sliding_window": config.window or None,
            "layer_types": layers,
        }
    return common


def peer_of(config: TransformerConfig, weights: Mapping[str, Array], dtype: str) -> Any:
    """Return the model there, with these weights of ours."""
    import torch
    import transformers

    _, kind = CLASSES[config.family]
    shape = getattr(transformers, f"{kind}Config")(**settings(config))
    shape._attn_implementation = "sdpa"  # softmax in the type of its input, float64 too
    model = getattr(transformers, "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM")
    peer = model(shape).to(getattr(torch, dtype))
    state = {
        name: torch.from_numpy(array.copy()) for name, array in theirs(config, weights).items()
    }
    missing, unexpected = peer.load_state_dict(state, strict=False)
    tied = {"lm_head.weight"} if config.tie_embeddings else set()
    assert not unexpected, unexpected
    assert {name for name in missing if "bias" not in name or "attn.bias" not in name} <= tied
    for module in peer.modules():
        if type(module).__name__.endswith("RMSNorm") and dtype == "float64":
            module.forward = _rms_norm(module)  # theirs computes in float32 whatever comes
        if type(module).__name__.endswith("RotaryEmbedding") and dtype == "float64":
            module.forward = _angles(config)  # theirs are one unit of float32 away here and there
    return peer.eval()


def _angles(config: TransformerConfig) -> Any:
    import torch

    tables = [np.concatenate([half, half], axis=1) for half in RotaryTable.of(config).angles]
    cos, sin = (torch.from_numpy(table.astype(np.float64)) for table in tables)

    def forward(x: Any, position_ids: Any, *others: Any) -> tuple[Any, Any]:
        return cos[position_ids], sin[position_ids]

    return forward


def _rms_norm(module: Any) -> Any:
    def forward(x: Any) -> Any:
        square = x.pow(2).mean(-1, keepdim=True)
        return module.weight * (x * (square + module.variance_epsilon).rsqrt())

    return forward


def names_of(config: TransformerConfig) -> dict[str, tuple[str, str]]:
    """Return for each name there ours, with how its array follows from ours.

    How is "" for the array itself, "T" for its transpose, the name of a block of rows, or "heads"
    for rows that are ordered by head, then by query, key and value.
    """
    prefix, kind = CLASSES[config.family]
    gpt2, neox = kind == "GPT2", kind == "GPTNeoX"
    found: dict[str, tuple[str, str]] = {}

    def both(theirs: str, ours: str, how: str = "") -> None:
        found[f"{theirs}.weight"] = (f"{ours}.weight", how)
        found[f"{theirs}.bias"] = (f"{ours}.bias", "" if how == "T" else how)

    embedding = {"GPT2": "wte", "GPTNeoX": "embed_in"}.get(kind, "embed_tokens")
    found[f"{prefix}.{embedding}.weight"] = ("embedding.token.weight", "")
    found[f"{prefix}.wpe.weight"] = ("embedding.position.weight", "")
    for i in range(config.n_layer):
        ours, there = f"blocks.{i}", f"{prefix}.{'h' if gpt2 else 'layers'}.{i}"
        if gpt2:
            both(f"{there}.ln_1", f"{ours}.attention.norm")
            both(f"{there}.attn.c_attn", f"{ours}.attention.qkv", "T")
            both(f"{there}.attn.c_proj", f"{ours}.attention.out", "T")
            both(f"{there}.ln_2", f"{ours}.mlp.norm")
            both(f"{there}.mlp.c_fc", f"{ours}.mlp.up", "T")
            both(f"{there}.mlp.c_proj", f"{ours}.mlp.down", "T")
            continue
        both(f"{there}.input_layernorm", f"{ours}.attention.norm")
        both(f"{there}.post_attention_layernorm", f"{ours}.mlp.norm")
        if neox:
            both(f"{there}.attention.query_key_value", f"{ours}.attention.qkv", "heads")
            both(f"{there}.attention.dense", f"{ours}.attention.out")
            both(f"{there}.mlp.dense_h_to_4h", f"{ours}.mlp.up")
            both(f"{there}.mlp.dense_4h_to_h", f"{ours}.mlp.down")
            continue
        for part in "qkv":
            both(f"{there}.self_attn.{part}_proj", f"{ours}.attention.qkv", part)
            both(f"{there}.self_attn.{part}_norm", f"{ours}.attention.{part}_norm")
        both(f"{there}.self_attn.o_proj", f"{ours}.attention.out")
        both(f"{there}.mlp.gate_proj", f"{ours}.mlp.up", "gate")
        both(f"{there}.mlp.up_proj", f"{ours}.mlp.up", "up")
        both(f"{there}.mlp.down_proj", f"{ours}.mlp.down")
    both(
        f"{prefix}.{ {'GPT2': 'ln_f', 'GPTNeoX': 'final_layer_norm'}.get(kind, 'norm') }",
        "final_norm",
    )
    if not config.tie_embeddings:
        found["lm_head.weight"] = ("head.weight", "")
    return found


def rows_of(config: TransformerConfig, name: str, how: str) -> Any:
    """Return which rows of our array an array there has, in its order."""
    heads, shared, size = config.n_head, config.n_kv_head, config.head_dim
    if how == "heads":
        return np.arange(3 * heads * size).reshape(3, heads, size).swapaxes(0, 1).reshape(-1)
    if how in ("gate", "up"):
        first = config.n_hidden if how == "up" else 0
        return np.arange(first, first + config.n_hidden)
    edges = np.cumsum([0, heads * size, shared * size, shared * size])
    i = "qkv".index(how)
    return np.arange(edges[i], edges[i + 1])


def theirs(config: TransformerConfig, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Return weights of ours by the names there."""
    found = {}
    for name, (ours, how) in names_of(config).items():
        if ours not in weights:
            continue
        array = weights[ours]
        if how == "T":
            array = np.ascontiguousarray(array.T)
        elif how:
            array = np.ascontiguousarray(array[rows_of(config, ours, how)])
        found[name] = array
    return found


def gradients_of(config: TransformerConfig, peer: Any) -> dict[str, Array]:
    """Return the gradients there by our names."""
    there = {name: p.grad.numpy() for name, p in peer.named_parameters() if p.grad is not None}
    found: dict[str, Array] = {}
    rows: dict[str, int] = {}
    for name, (ours, how) in names_of(config).items():
        if name not in there:
            continue
        array = there[name]
        if how == "T":
            array = array.T
        if how in ("", "T"):
            found[ours] = array
            continue
        which = rows_of(config, ours, how)
        rows[ours] = rows.get(ours, 0) + len(which)
        qkv = (config.n_head + 2 * config.n_kv_head) * config.head_dim
        wide = 2 * config.n_hidden if ".mlp." in ours else qkv
        found.setdefault(ours, np.full((wide, *array.shape[1:]), np.nan, array.dtype))[which] = (
            array
        )
    return found
