"""The shape of a transformer: the one declaration of its keys, and which go together."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tisslm.config.fields import (
    Count,
    CountOrZero,
    Expects,
    Flag,
    Fraction,
    NameList,
    PositiveNumber,
    Text,
    config_error,
    number,
    refused,
    show,
)
from tisslm.config.model.adapting import adapted
from tisslm.config.model.presets import FAMILIES, FAMILY, preset
from tisslm.config.model.rope_scaling import RopeScaling
from tisslm.errors import ConfigError
from tisslm.errors.suggestions import did_you_mean

__all__ = ["CHOICES", "GATED", "TransformerConfig"]

#: The most layers. They are built one by one, also to plan a run, so an absurd number is refused.
MOST_LAYERS = 10_000

#: The bounds of a cap of logits, so that float32 holds it, its inverse, and a logit divided by it.
LEAST_CAP, CAPS_END = 2.0**-63, 2.0**63

#: The bound of all sizes, so that no number of elements exceeds the range of addresses.
SIZES_END = 2**31

#: Activations whose product with a second map is taken, and the activation of the first.
GATED = {"swiglu": "silu", "geglu": "gelu", "geglu_tanh": "gelu_tanh"}

#: The names that a key may have.
CHOICES: Mapping[str, tuple[str, ...]] = {
    "family": tuple(FAMILIES),
    "activation": ("gelu", "gelu_tanh", "silu", "relu2", *GATED),
    "norm": ("layer", "rms"),
    "positions": ("learned", "rotary", "none"),
    "qk_norm": ("none", "head", "all"),
}

#: Keys that say something of rotary positions alone.
_ROTARY = frozenset({"rope_theta", "rotary_fraction", "rope_scaling"})

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
_Table = Annotated[dict[str, Any] | None, Expects("a table")]
_Names = Annotated[NameList | None, Expects("a list of names")]


class TransformerConfig(BaseModel):
    """The sizes and options of a decoder-only transformer.

    Parameters
    ----------
    family : str
        The family whose defaults fill what is left out, and whose name checkpoints carry.
    n_layer, n_head, n_embd : int
        L, H and C.
    seq_len : int
        The longest T, in tokens.
    vocab_size : int
        V, the number of token ids.
    n_kv_head : int, optional
        K, a divisor of H; left out, H.
    head_dim : int, optional
        D, the channels of a head; left out, C / H, and C is then a multiple of H.
    n_hidden : int, optional
        F, the width of the MLP; left out, 4 C, or with a gated activation 8 C / 3, rounded up to a
        multiple of 64.
    dropout : float
        Dropout probability of embedding, attention probabilities and sublayer outputs.
    bias : bool
        Whether linear maps and norms have a bias.
    qkv_bias, out_bias, mlp_bias, norm_bias : bool, optional
        The same for the maps to queries, keys and values, for the map from the heads, for those of
        the MLP, and for norms; left out, ``bias``. The norm ``rms`` never has one.
    activation : {"gelu", "gelu_tanh", "silu", "relu2", "swiglu", "geglu", "geglu_tanh"}
        Of the MLP; the last three are gated: f(gate x) times (up x).
    norm : {"layer", "rms"}
    norm_eps : float
        Constant that is added to the variance, or to the mean square.
    positions : {"learned", "rotary", "none"}
        How a pass knows where a token is: a table that is added to the embedding, rotations of
        queries and keys, or by the causal mask alone. Left out, rotary if one of the next three
        keys is given.
    rope_theta : float
        Base of the wavelengths of rotary positions.
    rotary_fraction : float
        The share of each head's channels that is rotated.
    rope_scaling : dict, optional
        How rotary positions are stretched to longer contexts; see ``RopeScaling``.
    window : int
        W: a token attends to itself and the W - 1 before it; 0 for all before it.
    layer_types : list of str, optional
        Which layers have the window: "sliding_attention" those, "full_attention" the others,
        repeated over the layers; left out, all have it.
    qk_norm : {"none", "head", "all"}
        RMS normalization of queries and keys, of each head alone or over all heads.
    logit_cap : float
        c: logits z become c tanh(z / c); 0 leaves them.
    parallel_residual : bool
        Whether attention and MLP of a block read the same stream, h + attention(h) + mlp(h).
    tie_embeddings : bool
        Whether the output matrix is the token embedding.

    References
    ----------
    Su et al., "RoFormer", arXiv 2104.09864 (rotary positions).
    Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202 (gated activations).
    Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv 1910.07467.
    Beltagy, Peters and Cohan, "Longformer", arXiv 2004.05150 (windows).
    Henry et al., "Query-Key Normalization for Transformers", arXiv 2010.04245.
    Gemma Team, "Gemma 2", arXiv 2408.00118 (cap of logits).
    Black et al., "GPT-NeoX-20B", arXiv 2204.06745 (parallel residual).
    """

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
    qk_norm: Text = "none"
    logit_cap: _Cap = 0.0
    parallel_residual: Flag = False
    tie_embeddings: Flag = True

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _refusal(error, type(self)) from None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """Take the family's defaults and derive the sizes that were left out."""
        if not isinstance(values, dict):
            return values
        given = {key: _as_int(value) for key, value in values.items()}
        family = given.get("family", FAMILY)
        defaults = FAMILIES.get(family, {}) if isinstance(family, str) else {}
        if "positions" not in given and not _ROTARY.isdisjoint(given):
            given["positions"] = "rotary"
        filled = {**_fitting(defaults, given), **given}
        for key in ("n_kv_head", "head_dim", "n_hidden"):
            if _left_out(filled.get(key)):
                filled[key] = _derived(key, filled)
        for key in ("qkv_bias", "out_bias", "mlp_bias", "norm_bias"):
            if filled.get(key) is None:
                filled[key] = filled.get("bias", True)
        if filled.get("norm") == "rms" and given.get("norm_bias") is None:
            filled["norm_bias"] = False
        return filled

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        for key, names in CHOICES.items():
            if (name := getattr(self, key)) not in names:
                hint = did_you_mean(name, names)
                raise refused(
                    f"model.{key}: expected one of {', '.join(names)}, got {name!r:.200}"
                    f"{hint and '.' + hint}"
                )
        if self.norm == "rms" and self.norm_bias:
            raise refused('model.norm_bias: expected false, since "rms" adds nothing, got true')
        self._check_sizes()
        self._check_positions()
        self._check_window()
        if self.logit_cap and not LEAST_CAP <= self.logit_cap < CAPS_END:
            raise refused(
                "model.logit_cap: expected 0, which caps nothing, or a number from 2^-63 to 2^63, "
                f"got {show(self.logit_cap)}"
            )
        return self

    def _check_sizes(self) -> None:
        ends = {"n_layer": MOST_LAYERS + 1, "n_hidden": 4 * SIZES_END}
        for key in ("n_layer", "n_head", "n_embd", "seq_len", "vocab_size", "head_dim", "n_hidden"):
            end = ends.get(key, SIZES_END)
            if (size := getattr(self, key)) >= end:
                raise refused(f"model.{key}: expected an integer below {end}, got {size}")
        if self.n_kv_head < 1 or self.n_head % self.n_kv_head:
            raise refused(
                f"model.n_kv_head: expected a divisor of n_head = {self.n_head}, "
                f"got {self.n_kv_head}"
            )
        if self.head_dim < 1:
            raise refused(
                f"model.n_embd: expected a multiple of n_head = {self.n_head}, got {self.n_embd}; "
                "or give model.head_dim"
            )

    def _check_positions(self) -> None:
        if self.positions == "rotary":
            self._check_rotary()
            return
        fixed = {"rope_scaling": None, "rotary_fraction": 1.0, "rope_theta": 1e4}
        for key, default in fixed.items():
            if (value := getattr(self, key)) != default:
                raise refused(
                    f'model.{key}: {show(value)} needs positions = "rotary", got '
                    f"{show(self.positions)}; leave it out, or change model.positions"
                )

    def _check_rotary(self) -> None:
        turned = int(self.head_dim * self.rotary_fraction)
        if self.rotary_fraction == 1 and turned % 2:
            raise refused(
                "model.head_dim: expected an even number, since rotary positions turn channels in "
                f"pairs, got {self.head_dim}{self._quotient()}"
            )
        if turned % 2 or not turned:
            raise refused(
                f"model.rotary_fraction: expected a part of head_dim = {self.head_dim} that is an "
                f"even number of channels, got {show(self.rotary_fraction)}, which is {turned} of "
                "them; give another one, or another model.head_dim"
            )
        if not 1 < self.rope_theta < 2**63:
            raise refused(
                "model.rope_theta: expected a number above 1 and below 2^63, got "
                f"{show(self.rope_theta)}"
            )
        try:
            RopeScaling.parse(self.rope_scaling, self.seq_len)
        except ConfigError as error:
            raise refused(str(error)) from None

    def _quotient(self) -> str:
        """Return what ``head_dim`` follows from, where nobody may have given it."""
        if self.head_dim * self.n_head != self.n_embd:
            return ""
        return f", which is n_embd / n_head = {self.n_embd} / {self.n_head}"

    def _check_window(self) -> None:
        if self.positions == "learned" and self.window > self.seq_len:
            raise refused(
                f"model.window: expected at most seq_len = {self.seq_len}, beyond which there are "
                f"no learned positions, got {self.window}"
            )
        if self.layer_types is not None:
            for name in self.layer_types:
                if name not in (FULL, SLIDING):
                    raise refused(
                        f"model.layer_types: expected names out of {FULL} and {SLIDING}, "
                        f"got {show(name)}"
                    )
            if not 1 <= len(self.layer_types) <= self.n_layer:
                raise refused(
                    f"model.layer_types: expected 1 to n_layer = {self.n_layer} names, which are "
                    f"repeated over the layers, got {len(self.layer_types)}"
                )
            if SLIDING in self.layer_types and not self.window:
                raise refused(
                    f"model.layer_types: {SLIDING} needs model.window, the number of tokens that "
                    "such a layer sees; set it"
                )

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> TransformerConfig:
        """Return a named configuration, with some values replaced.

        Sizes of the preset are adapted to those that are given: heads become the largest number
        that divides ``n_embd``, channels the nearest multiple of ``n_head``, both so that rotary
        positions can turn a head's channels in pairs; heads of keys become the largest divisor of
        ``n_head`` up to the preset's, and the MLP keeps its share of ``n_embd``. With other
        ``positions``, what the preset says of rotary ones is left out.

        Examples
        --------
        >>> TransformerConfig.preset("char-tiny", vocab_size=65).n_embd
        128
        """
        values = preset(name)
        given = {key: _as_int(value) for key, value in overrides.items()}
        return cls(**{**_fitting(values, given), **adapted(values, given), **overrides})

    def values(self) -> dict[str, Any]:
        """Return all settings but the family as plain values; they build an equal configuration."""
        return self.model_dump(exclude={"family"})

    @property
    def head_size(self) -> int:
        """D, the channels of one head."""
        return self.head_dim

    @property
    def qkv_size(self) -> int:
        """E, the channels of queries, keys and values together."""
        return (self.n_head + 2 * self.n_kv_head) * self.head_dim

    @property
    def gated(self) -> bool:
        """Whether the MLP has a gate beside its map upwards."""
        return self.activation in GATED

    def window_of(self, layer: int) -> int:
        """Return W of a layer, from 0; 0 where it sees all tokens before."""
        if self.layer_types is None:
            return self.window
        kind = self.layer_types[layer % len(self.layer_types)]
        return self.window if kind == SLIDING else 0


def _fitting(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return defaults without those of rotary positions, if others are given, or a family's."""
    family = given.get("family")
    implied = FAMILIES.get(family, {}).get("positions") if isinstance(family, str) else "rotary"
    if not _ROTARY.isdisjoint(given):
        implied = "rotary"
    if given.get("positions", implied) == "rotary":
        return defaults
    return {key: value for key, value in defaults.items() if key not in _ROTARY}


def _as_int(value: object) -> object:
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _left_out(value: object) -> bool:
    """Return True if a size is to be derived: it is None or 0, or was not given."""
    return value is None or (value == 0 and type(value) is int)


def _derived(key: str, values: Mapping[str, Any]) -> int:
    """Return a size that was left out; 0 if what it follows from is missing or does not fit."""
    heads, width = (
        value if isinstance(value := values.get(name), int) and value is not True else 0
        for name in ("n_head", "n_embd")
    )
    if key == "n_kv_head":
        return heads
    if key == "head_dim":
        return width // heads if heads > 0 and width % heads == 0 else 0
    if width >= SIZES_END:  # which is what the error is to name
        return 0
    activation = values.get("activation")
    if isinstance(activation, str) and activation in GATED:
        return -(-8 * width // 3 // 64) * 64
    return 4 * width


def _refusal(error: ValidationError, model: type[BaseModel]) -> ConfigError:
    """Return the first problem in one sentence: where, what was expected, what came, what to do."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return ConfigError(f"model.{where}: a value is needed; set it or choose a preset")
    if first["type"] == "extra_forbidden":
        hint, known = did_you_mean(where, model.model_fields), ", ".join(model.model_fields)
        return ConfigError(
            f"model: unknown key {where!r:.200}. Known: {known}{hint and '.' + hint}"
        )
    return config_error("model", model, error)
