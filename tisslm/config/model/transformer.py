"""The shape of a transformer: what a family, a preset and the keys that were given make of it."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any, final

from pydantic import BaseModel, ValidationError, model_validator

from tisslm.config.fields import config_error
from tisslm.config.model.adapting import adapted
from tisslm.config.model.checks import SIZES_END, check_shape
from tisslm.config.model.keys import GATED, OF_VECTORS, ShapeKeys
from tisslm.config.model.positions import positions_of, without_rotary
from tisslm.config.model.presets import FAMILIES, FAMILY, preset
from tisslm.errors import ConfigError
from tisslm.errors.suggestions import did_you_mean

__all__ = ["TransformerConfig"]


@final
class TransformerConfig(ShapeKeys):
    """The sizes and options of a transformer: a language model, or with ``pooling`` an encoder.

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
    causal : bool
        Whether a token attends to none after it; if not, to all of its document, and then there is
        no window, and no text is written.
    qk_norm : {"none", "head", "all"}
        RMS normalization of queries and keys, of each head alone or over all heads.
    logit_cap : float
        c: logits z become c tanh(z / c); 0 leaves them.
    mup_base_width : int
        muP: the width (``n_embd``) whose learning rate and initial values are kept at this one; 0:
        no muP. Left out, this width if the next key is given. For Adam and its like: matrices
        between vectors of the stream, or of an MLP, learn at base / C of the rate and begin
        sqrt(base / C) times as large, logits are multiplied by base / C, and attention's scores
        fall as 1 / D.
    mup_base_head_dim : int
        D at the base width; 0: the base has as many heads, so D base / C.
    parallel_residual : bool
        Whether attention and MLP of a block read the same stream, h + attention(h) + mlp(h).
    tie_embeddings : bool
        Whether the output matrix is the token embedding.
    pooling : {"none", "mean", "last", "max"}
        What becomes a text's vector: the mean of its tokens' normalized stream, that of its last
        token, or the largest of each channel. "none" is a language model, and has none of the next
        three keys. Left out, "mean" if one of these is given.
    projection : int
        E, the numbers of a vector, to which a matrix maps the C channels; 0: no matrix, and E is C.
    normalize : bool
        Whether vectors are divided by their length.
    logit_scale : float
        1 / temperature to begin with, of which the logarithm is learned; 0: nothing is learned.

    References
    ----------
    Su et al., "RoFormer", arXiv 2104.09864 (rotary positions).
    Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202 (gated activations).
    Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv 1910.07467.
    Beltagy, Peters and Cohan, "Longformer", arXiv 2004.05150 (windows).
    Henry et al., "Query-Key Normalization for Transformers", arXiv 2010.04245.
    Gemma Team, "Gemma 2", arXiv 2408.00118 (cap of logits).
    Yang et al., "Tensor Programs V", arXiv 2203.03466 (muP).
    Black et al., "GPT-NeoX-20B", arXiv 2204.06745 (parallel residual).
    Reimers and Gurevych, "Sentence-BERT", arXiv 1908.10084 (pooling).
    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", arXiv
    2103.00020 (learned temperature).
    """

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
        given["positions"] = positions_of(family, given)
        if given.get("pooling") is None:
            given["pooling"] = "mean" if OF_VECTORS & given.keys() else "none"
        if given.get("mup_base_width") is None:
            given["mup_base_width"] = given.get("n_embd") if given.get("mup_base_head_dim") else 0
        defaults = FAMILIES.get(family, {}) if isinstance(family, str) else {}
        filled = {**without_rotary(defaults, given["positions"]), **given}
        for key in ("n_kv_head", "head_dim", "n_hidden"):
            if _left_out(filled.get(key)):
                filled[key] = _derived(key, filled)
        if filled.get("norm") == "rms" and filled.get("norm_bias") is None:
            filled["norm_bias"] = False
        for key in ("qkv_bias", "out_bias", "mlp_bias", "norm_bias"):
            if filled.get(key) is None:
                filled[key] = filled.get("bias", True)
        return filled

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        check_shape(self)
        return self

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
        positions = positions_of(given.get("family", values["family"]), given)
        kept = without_rotary(values, positions)
        return cls(**{**kept, **adapted(values, given), **overrides})

    def values(self) -> dict[str, Any]:
        """Return all settings but the family as plain values; they build an equal configuration."""
        return self.model_dump(exclude={"family"})


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
