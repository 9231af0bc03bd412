"""The keys of a transformer's shape, each declared once: type, bounds and words, default.

What they mean is documented at ``TransformerConfig``, which fills and checks them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tisslm.config.fields import (
    Count,
    CountOrZero,
    Expects,
    Flag,
    Fraction,
    NameList,
    PositiveNumber,
    Text,
    number,
)
from tisslm.config.model.presets import FAMILIES, FAMILY

__all__ = ["CHOICES", "FULL", "GATED", "OF_VECTORS", "SLIDING", "ShapeKeys"]

#: Activations whose product with a second map is taken, and the activation of the first.
GATED = {"swiglu": "silu", "geglu": "gelu", "geglu_tanh": "gelu_tanh"}

#: The names that a key may have.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "family": tuple(FAMILIES),
    "activation": ("gelu", "gelu_tanh", "silu", "relu2", *GATED),
    "norm": ("layer", "rms"),
    "positions": ("learned", "rotary", "none"),
    "qk_norm": ("none", "head", "all"),
    "pooling": ("none", "mean", "last", "max"),
}

#: The keys of how vectors of texts are made, beside ``pooling``.
OF_VECTORS = frozenset({"projection", "normalize", "logit_scale"})

#: The names in ``layer_types``, as published configurations have them.
FULL, SLIDING = "full_attention", "sliding_attention"

_OrZero = Annotated[CountOrZero, Expects("an integer >= 0", "0 derives it")]
_Flag = Annotated[Flag | None, Expects("true or false")]
_Share = Annotated[
    float,
    BeforeValidator(number),
    Field(gt=0, le=1, allow_inf_nan=False),
    Expects("a number in (0, 1]"),
]
_Cap = Annotated[
    float,
    BeforeValidator(number),
    Field(ge=0, allow_inf_nan=False),
    Expects("a finite number >= 0", "0 caps nothing"),
]
_Scale = Annotated[
    float,
    BeforeValidator(number),
    Field(ge=0, allow_inf_nan=False),
    Expects("a finite number >= 0", "0 learns none"),
]
_Table = Annotated[dict[str, Any] | None, Expects("a table")]
_Names = Annotated[NameList | None, Expects("a list of names")]


class ShapeKeys(BaseModel):
    """The keys of ``TransformerConfig``, as they were given or filled in."""

    # Strict: "4" is no integer and True is none either; an integer will do for a float.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    family: Text = FAMILY
    n_layer: Count
    n_head: Count
    n_embd: Count
    seq_len: Count
    vocab_size: Count
    n_kv_head: _OrZero = 0
    head_dim: _OrZero = 0
    n_hidden: _OrZero = 0
    dropout: Fraction = 0.0
    bias: Flag = True
    qkv_bias: _Flag = None
    out_bias: _Flag = None
    mlp_bias: _Flag = None
    norm_bias: _Flag = None
    activation: Text = "gelu"
    norm: Text = "layer"
    norm_eps: PositiveNumber = 1e-5
    positions: Text = "learned"
    rope_theta: PositiveNumber = 1e4
    rotary_fraction: _Share = 1.0
    rope_scaling: _Table = None
    window: Annotated[CountOrZero, Expects("an integer >= 0", "0 sees all tokens before")] = 0
    layer_types: _Names = None
    causal: Flag = True
    qk_norm: Text = "none"
    logit_cap: _Cap = 0.0
    mup_base_width: Annotated[CountOrZero, Expects("an integer >= 0", "0 switches muP off")] = 0
    mup_base_head_dim: Annotated[
        CountOrZero, Expects("an integer >= 0", "0: as many heads at the base")
    ] = 0
    parallel_residual: Flag = False
    tie_embeddings: Flag = True
    pooling: Text = "none"
    projection: Annotated[CountOrZero, Expects("an integer >= 0", "0 is none")] = 0
    normalize: Flag = True
    logit_scale: _Scale = 0.0

    @property
    def embeds(self) -> bool:
        """Whether the model makes a vector of each text, and no logits."""
        return self.pooling != "none"

    @property
    def embedding_size(self) -> int:
        """E: the numbers of a text's vector."""
        return self.projection or self.n_embd

    @property
    def gated(self) -> bool:
        """Whether the MLP has a gate beside its map upwards."""
        return self.activation in GATED

    @property
    def width_ratio(self) -> float:
        """MuP's base width over this width, exactly 1 at the base and without muP."""
        return self.mup_base_width / self.n_embd if self.mup_base_width else 1.0

    @property
    def score_factor(self) -> float:
        """MuP's factor of attention's scores, sqrt(D of the base / D); 1 without muP."""
        base = self.mup_base_head_dim or self.head_dim * self.width_ratio
        return math.sqrt(base / self.head_dim)

    @property
    def attention_scale(self) -> float:
        """What the products of queries and keys are multiplied by: 1 / sqrt(D), or muP's 1 / D."""
        return 1.0 / math.sqrt(self.head_dim) * self.score_factor

    @property
    def rescaled(self) -> bool:
        """Whether passes have factors of muP that no class of others has."""
        return self.width_ratio != 1.0 or self.score_factor != 1.0

    def window_of(self, layer: int) -> int:
        """Return W of a layer, from 0; 0 where it sees all tokens before."""
        if self.layer_types is None:
            return self.window
        kind = self.layer_types[layer % len(self.layer_types)]
        return self.window if kind == SLIDING else 0
