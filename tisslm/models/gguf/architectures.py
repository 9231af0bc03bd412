"""The architectures of GGUF files that are models here: what they say, and names of tensors.

The names are those of llama.cpp's ``gguf-py/gguf/tensor_mapping.py``, what an architecture computes
is in its ``src/models``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tisslm.config.model import TransformerConfig
from tisslm.memory import ParameterSpec

__all__ = ["ARCHITECTURES", "OF_FAMILY", "Architecture", "Part", "parts_of"]

_RMS = {
    "norm": ("rms",),
    "positions": ("rotary",),
    "activation": ("swiglu",),
    "rotary_fraction": (1.0,),
    "parallel_residual": (False,),
    "logit_cap": (0.0,),
}
_LAYER = {
    "norm": ("layer",),
    # llama.cpp computes the second for both
    "activation": ("gelu", "gelu_tanh"),
    "qk_norm": ("none",),
    "logit_cap": (0.0,),
}


@dataclass(frozen=True)
class Architecture:
    """What the metadata of a file call its architecture.

    Attributes
    ----------
    name : str
    family : str
        Ours, whose defaults hold for a file.
    says : mapping of str to tuple
        Values of settings that it computes; of others, it computes any.
    fused : bool
        Whether queries, keys and values are one tensor.
    rms : bool
        Whether its norms are, which decides the name of their constant.
    pairs_neighbours : bool
        Whether rotary positions turn channels 2i and 2i + 1 of a head, where ours and all others
        turn i and i + D/2: rows of queries and keys are then in another order.
    needs : tuple of str
        Settings of biases that it cannot be without.
    one_kv : bool
        Whether every head has keys of its own, and the heads together the width of the model.
    untied : bool
        Whether the output matrix is always there.
    defaults : mapping
        Settings of what a file does not say.
    """

    name: str
    family: str
    says: Mapping[str, tuple[Any, ...]]
    fused: bool = False
    rms: bool = True
    pairs_neighbours: bool = False
    needs: tuple[str, ...] = ()
    one_kv: bool = False
    untied: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def leaves_activation(self) -> bool:
        """Whether a file does not tell which of several activations the model was trained with."""
        return len(self.says["activation"]) > 1


_ALL_BIASES = ("qkv_bias", "out_bias", "mlp_bias", "norm_bias")
_NO_BIAS = {"out_bias": (False,), "mlp_bias": (False,)}

ARCHITECTURES = {
    one.name: one
    for one in (
        Architecture("llama", "llama", {**_RMS, "qk_norm": ("none",)}, pairs_neighbours=True),
        Architecture(
            "qwen2", "qwen2", {**_RMS, **_NO_BIAS, "qk_norm": ("none",)}, needs=("qkv_bias",)
        ),
        Architecture(
            "qwen3", "qwen3", {**_RMS, **_NO_BIAS, "qk_norm": ("head",), "qkv_bias": (False,)}
        ),
        Architecture(
            "gpt2",
            "gpt2",
            {**_LAYER, "positions": ("learned",), "parallel_residual": (False,)},
            fused=True,
            rms=False,
            needs=_ALL_BIASES,
            one_kv=True,
            defaults={"activation": "gelu_tanh"},
        ),
        Architecture(
            "gptneox",
            "gpt_neox",
            {**_LAYER, "positions": ("rotary",)},
            fused=True,
            rms=False,
            needs=_ALL_BIASES,
            one_kv=True,
            untied=True,
        ),
    )
}

#: The architecture by our family. Mistral's models are Llama's to the format.
OF_FAMILY = {one.family: one for one in ARCHITECTURES.values()} | {
    "mistral": ARCHITECTURES["llama"]
}


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one of our parameters that are a tensor of their own in a file.

    Attributes
    ----------
    name : str
        The tensor's.
    rows : slice
    shape : tuple of int
    heads : int
        Of a tensor whose rows are in the order of pairs of neighbours, the heads; else 0.
    """

    name: str
    rows: slice
    shape: tuple[int, ...]
    heads: int = 0


_WHOLE = {
    "embedding.token": "token_embd",
    "embedding.position": "position_embd",
    "final_norm": "output_norm",
    "head": "output",
}
_OF_BLOCK = {
    "attention.norm": "attn_norm",
    "attention.qkv": "attn_qkv",
    "attention.q_norm": "attn_q_norm",
    "attention.k_norm": "attn_k_norm",
    "attention.out": "attn_output",
    "mlp.norm": "ffn_norm",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
}
_OF_ROWS = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "gate": "ffn_gate", "up": "ffn_up"}


def parts_of(
    spec: ParameterSpec, architecture: Architecture, config: TransformerConfig
) -> Iterator[Part]:
    """Yield the tensors of a parameter in the order of its rows."""
    stem, _, kind = spec.name.rpartition(".")
    whole = slice(0, spec.shape[0])
    if stem in _WHOLE:
        yield Part(f"{_WHOLE[stem]}.{kind}", whole, spec.shape)
        return
    _, number, stem = stem.split(".", 2)
    before = f"blk.{number}"
    if not spec.blocks or (stem == "attention.qkv" and architecture.fused):
        yield Part(f"{before}.{_OF_BLOCK[stem]}.{kind}", whole, spec.shape)
        return
    heads = {"q": config.n_head, "k": config.n_kv_head} if architecture.pairs_neighbours else {}
    for block, rows in spec.rows().items():
        shape = (rows.stop - rows.start, *spec.shape[1:])
        yield Part(f"{before}.{_OF_ROWS[block]}.{kind}", rows, shape, heads.get(block, 0))
