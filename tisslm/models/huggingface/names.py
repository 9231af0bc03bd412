"""The names of arrays in transformers, as data: a table for each of their families.

A line of a table is a module there and the module here whose array it has, or a part of it. Either
has a ``weight`` and perhaps a ``bias``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

__all__ = ["FAMILIES", "Bias", "Family", "Line", "Part"]

#: How an array there follows from ours: it is the same, its transpose (a weight; biases are the
#: same), one of its blocks of rows, or its rows ordered by head and then by query, key and value.
Part = Literal["whole", "transposed", "q", "k", "v", "gate", "up", "by head"]


class Bias(Enum):
    """When a module there has a bias: what we have none for is written as zeros."""

    NEVER = auto()
    ALWAYS = auto()
    ATTENTION = auto()  # if the configuration says so, for all maps of attention together
    MLP = auto()  # if the configuration says so, for all maps of the MLP together


@dataclass(frozen=True)
class Line:
    """A module there, with {i} for the number of a block, and the one of ours that it is from."""

    theirs: str
    ours: str
    part: Part = "whole"
    bias: Bias = Bias.NEVER


@dataclass(frozen=True)
class Family:
    """A family of transformers, which is a family of ours by the same name.

    Attributes
    ----------
    model : str
        The class of its models.
    prefix : str
        What names begin with, but the head's; files without a head may lack it.
    lines : tuple of Line
    head : tuple of str
        Modules that are the head, the first as files of the family have it.
    ignored : Pattern
        Names of arrays that follow from the configuration, which old files have.
    """

    model: str
    prefix: str
    lines: tuple[Line, ...]
    head: tuple[str, ...] = ("lm_head",)
    ignored: re.Pattern[str] = re.compile(r"(?:.*\.)?rotary_emb\.inv_freq")


def _gpt2() -> Family:
    always, block = Bias.ALWAYS, "blocks.{i}"
    lines = (
        Line("wte", "embedding.token"),
        Line("wpe", "embedding.position"),
        Line("h.{i}.ln_1", f"{block}.attention.norm", bias=always),
        Line("h.{i}.attn.c_attn", f"{block}.attention.qkv", "transposed", always),
        Line("h.{i}.attn.c_proj", f"{block}.attention.out", "transposed", always),
        Line("h.{i}.ln_2", f"{block}.mlp.norm", bias=always),
        Line("h.{i}.mlp.c_fc", f"{block}.mlp.up", "transposed", always),
        Line("h.{i}.mlp.c_proj", f"{block}.mlp.down", "transposed", always),
        Line("ln_f", "final_norm", bias=always),
    )
    masks = re.compile(r"(?:.*\.)?h\.[0-9]+\.attn\.(?:bias|masked_bias)")
    return Family("GPT2LMHeadModel", "transformer", lines, ignored=masks)


def _llama(
    kind: str, qkv: Bias, out: Bias, mlp: Bias = Bias.NEVER, *, norms: bool = False
) -> Family:
    block, there = "blocks.{i}", "layers.{i}"
    parts: tuple[Part, ...] = ("q", "k", "v")
    attention = [
        Line(f"{there}.self_attn.{p}_proj", f"{block}.attention.qkv", p, qkv) for p in parts
    ]
    of_heads = [
        Line(f"{there}.self_attn.{p}_norm", f"{block}.attention.{p}_norm") for p in "qk" if norms
    ]
    lines = (
        Line("embed_tokens", "embedding.token"),
        Line(f"{there}.input_layernorm", f"{block}.attention.norm"),
        *attention,
        *of_heads,
        Line(f"{there}.self_attn.o_proj", f"{block}.attention.out", bias=out),
        Line(f"{there}.post_attention_layernorm", f"{block}.mlp.norm"),
        Line(f"{there}.mlp.gate_proj", f"{block}.mlp.up", "gate", mlp),
        Line(f"{there}.mlp.up_proj", f"{block}.mlp.up", "up", mlp),
        Line(f"{there}.mlp.down_proj", f"{block}.mlp.down", bias=mlp),
        Line("norm", "final_norm"),
    )
    return Family(f"{kind}ForCausalLM", "model", lines)


def _gpt_neox() -> Family:
    always, block, there = Bias.ALWAYS, "blocks.{i}", "layers.{i}"
    qkv, out = f"{there}.attention.query_key_value", f"{there}.attention.dense"
    lines = (
        Line("embed_in", "embedding.token"),
        Line(f"{there}.input_layernorm", f"{block}.attention.norm", bias=always),
        Line(qkv, f"{block}.attention.qkv", "by head", Bias.ATTENTION),
        Line(out, f"{block}.attention.out", bias=Bias.ATTENTION),
        Line(f"{there}.post_attention_layernorm", f"{block}.mlp.norm", bias=always),
        Line(f"{there}.mlp.dense_h_to_4h", f"{block}.mlp.up", bias=always),
        Line(f"{there}.mlp.dense_4h_to_h", f"{block}.mlp.down", bias=always),
        Line("final_layer_norm", "final_norm", bias=always),
    )
    masks = re.compile(
        r"(?:.*\.)?layers\.[0-9]+\.attention\.(?:bias|masked_bias|rotary_emb\.inv_freq)"
    )
    return Family("GPTNeoXForCausalLM", "gpt_neox", lines, ("embed_out", "lm_head"), masks)


#: By what ``model_type`` calls them.
FAMILIES: Mapping[str, Family] = {
    "gpt2": _gpt2(),
    "llama": _llama("Llama", Bias.ATTENTION, Bias.ATTENTION, Bias.MLP),
    "mistral": _llama("Mistral", Bias.NEVER, Bias.NEVER),
    "qwen2": _llama("Qwen2", Bias.ALWAYS, Bias.NEVER),
    "qwen3": _llama("Qwen3", Bias.ATTENTION, Bias.ATTENTION, norms=True),
    "gpt_neox": _gpt_neox(),
}
