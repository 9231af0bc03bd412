"""Llamas of Hugging Face transformers with our shapes and weights: what TissLM is held against.

The model is as its authors publish it: attention is ``scaled_dot_product_attention``, and the loss
is the model's own. Our names are mapped here by hand, apart from any mapping of the package.

What does not live here: the optimizer and the update (``torch_gpt``), files.

References
----------
transformers 5.24, ``modeling_llama.py``, ``modeling_qwen2.py`` and ``loss/loss_utils.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

__all__ = ["CausalLM", "load_llama"]

CLASSES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}

#: Names there of what is an array of its own here, too.
TOP = {"embedding.token.weight": "embed_tokens.weight", "final_norm.weight": "norm.weight"}
WHOLE = {
    "attention.norm": "input_layernorm",
    "attention.out": "self_attn.o_proj",
    "mlp.norm": "post_attention_layernorm",
    "mlp.down": "mlp.down_proj",
}


class CausalLM(nn.Module):
    """A model of transformers, called as the update calls it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BT: Tensor, y_BT: Tensor) -> Tensor:
        """Return the mean loss; ``shift_labels`` are targets that need no shift any more."""
        return cast(Tensor, self.model(input_ids=x_BT, labels=y_BT, shift_labels=y_BT).loss)


def load_llama(keys: dict[str, Any], weights: Mapping[str, Any]) -> CausalLM:
    """Build the family's model with our weights."""
    config, model_class = CLASSES[keys["family"]]
    model = model_class(config(**settings(keys)))
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, array in by_their_names(keys, weights):
            parameters.pop(name).copy_(torch.from_numpy(array))
    if parameters:
        raise ValueError(f"parameters that ours does not have: {sorted(parameters)[:5]}")
    return CausalLM(model)


def settings(keys: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration's arguments; what a family has by itself is not among them."""
    return {
        "vocab_size": keys["vocab_size"],
        "hidden_size": keys["n_embd"],
        "intermediate_size": keys["n_hidden"],
        "num_hidden_layers": keys["n_layer"],
        "num_attention_heads": keys["n_head"],
        "num_key_value_heads": keys["n_kv_head"],
        "max_position_embeddings": keys["seq_len"],
        "rms_norm_eps": keys["norm_eps"],
        "rope_parameters": {"rope_type": "default", "rope_theta": keys["rope_theta"]},
        "tie_word_embeddings": keys["tie_embeddings"],
        "attn_implementation": "sdpa",
        "use_cache": False,  # keys and values that only generation needs
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def by_their_names(keys: dict[str, Any], weights: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield our arrays by the names there; fused maps are taken apart."""
    size = keys["n_embd"] // keys["n_head"]
    fused = {
        "attention.qkv": {
            "self_attn.q_proj": keys["n_head"] * size,
            "self_attn.k_proj": keys["n_kv_head"] * size,
            "self_attn.v_proj": keys["n_kv_head"] * size,
        },
        "mlp.up": {"mlp.gate_proj": keys["n_hidden"], "mlp.up_proj": keys["n_hidden"]},
    }
    for name in weights:
        array, first = weights[name], 0
        if name in TOP:
            yield f"model.{TOP[name]}", array
            continue
        _, layer, sublayer, part, kind = name.split(".")
        part = f"{sublayer}.{part}"
        for theirs, rows in fused.get(part, {WHOLE.get(part, part): len(array)}).items():
            yield f"model.layers.{layer}.{theirs}.{kind}", array[first : first + rows]
            first += rows
