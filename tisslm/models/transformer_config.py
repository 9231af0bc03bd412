"""The configuration of a transformer: sizes, options and named presets."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tisslm.config.presets import PRESETS
from tisslm.errors import ConfigError
from tisslm.errors.suggestions import did_you_mean
from tisslm.models.layers.norm import NORMS

__all__ = ["TransformerConfig"]

#: The most layers. They are built one by one, also to plan a run, so an absurd number is refused.
MOST_LAYERS = 10_000

#: The bound of all sizes, so that no number of elements exceeds the range of addresses.
SIZES_END = 2**31


class TransformerConfig(BaseModel):
    """The sizes and options of a decoder-only transformer.

    Parameters
    ----------
    n_layer, n_head, n_embd : int
        L, H and C; C is a multiple of H.
    seq_len : int
        The longest T, in tokens.
    vocab_size : int
        V, the number of token ids.
    n_kv_head : int, optional
        K, a divisor of H; left out, H.
    n_hidden : int, optional
        F, the width of the MLP; left out, 4 C.
    dropout : float
        Dropout probability of embedding, attention probabilities and sublayer outputs.
    bias : bool
        Whether linear maps and norms have a bias.
    activation : {"gelu", "gelu_tanh"}
    norm : str
        A name in ``tisslm.models.layers.norm.NORMS``.
    norm_eps : float
        Constant that is added to the variance.
    tie_embeddings : bool
        Whether the output matrix is the token embedding.
    """

    # Strict: "4" is no integer and True is none either; an integer will do for a float.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    n_layer: int = Field(ge=1, le=MOST_LAYERS)
    n_head: int = Field(ge=1, lt=SIZES_END)
    n_embd: int = Field(ge=1, lt=SIZES_END)
    seq_len: int = Field(ge=1, lt=SIZES_END)
    vocab_size: int = Field(ge=1, lt=SIZES_END)
    n_kv_head: int = Field(default=0, lt=SIZES_END)
    n_hidden: int = Field(default=0, ge=0, lt=4 * SIZES_END)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    bias: bool = True
    activation: Literal["gelu", "gelu_tanh"] = "gelu"
    norm: str = "layer"
    norm_eps: float = Field(default=1e-5, gt=0.0, allow_inf_nan=False)
    tie_embeddings: bool = True

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_sentence(error, type(self))) from None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """Derive the sizes that were left out; convert integers of NumPy."""
        if isinstance(values, dict):
            values = {key: _as_int(value) for key, value in values.items()}
            if _left_out(values.get("n_kv_head")):
                values = {**values, "n_kv_head": values.get("n_head", 0)}
            if _left_out(values.get("n_hidden")) and isinstance(values.get("n_embd"), int):
                values = {**values, "n_hidden": 4 * values["n_embd"]}
        return values

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd: expected a multiple of n_head = {self.n_head}, got {self.n_embd}"
            )
        if self.norm not in NORMS:
            raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {self.norm!r:.200}")
        if self.n_kv_head < 1 or self.n_head % self.n_kv_head:
            raise ValueError(
                f"n_kv_head: expected a divisor of n_head = {self.n_head}, got {self.n_kv_head}"
            )
        return self

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> TransformerConfig:
        """Return a named configuration, with some values replaced.

        The numbers of heads and channels of the preset are adapted to those that are given: heads
        become the largest number that divides ``n_embd``, channels the nearest multiple of
        ``n_head``.

        Examples
        --------
        >>> TransformerConfig.preset("char-tiny", vocab_size=65).n_embd
        128
        """
        if name not in PRESETS:
            hint = did_you_mean(name, PRESETS)
            raise ConfigError(
                f"model.preset: unknown preset {name!r}. Known: {', '.join(PRESETS)}"
                f"{hint and '.' + hint}"
            )
        return cls(**{**PRESETS[name], **_following(PRESETS[name], overrides), **overrides})

    def values(self) -> dict[str, Any]:
        """Return all settings as plain JSON values; they build an equal configuration."""
        return self.model_dump()

    @property
    def head_size(self) -> int:
        """D, the channels of one head."""
        return self.n_embd // self.n_head

    @property
    def qkv_size(self) -> int:
        """E, the channels of queries, keys and values together."""
        return (self.n_head + 2 * self.n_kv_head) * self.head_size


def _following(preset: dict[str, Any], given: dict[str, Any]) -> dict[str, int]:
    """Return a preset's heads and channels, adapted to those given; wrong values are kept."""
    sizes = {
        key: value
        for key in ("n_kv_head", "n_head", "n_embd")
        if isinstance(value := _as_int(given.get(key)), int) and value >= 1
    }
    heads, width = sizes.get("n_head", preset["n_head"]), sizes.get("n_embd", preset["n_embd"])
    shared = sizes.get("n_kv_head", 1)
    found = {}
    if "n_head" not in sizes and (heads % shared or ("n_embd" in sizes and width % heads)):
        fits = range(shared, max(heads, shared) + 1, shared)
        divides = [h for h in fits if "n_embd" not in sizes or width % h == 0]
        heads = found["n_head"] = divides[-1] if divides else heads
    if "n_embd" not in sizes and width % heads:
        found["n_embd"] = max(1, (width + heads // 2) // heads) * heads
    return found


def _as_int(value: object) -> object:
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _left_out(value: object) -> bool:
    """Return True if a size is to be derived: it is None or 0, or was not given."""
    return value is None or (value == 0 and type(value) is int)


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first problem in one sentence: where, what was expected, what came, what to do."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"model.{where}: a value is needed; set it or choose a preset"
    if first["type"] == "extra_forbidden":
        hint, known = did_you_mean(where, model.model_fields), ", ".join(model.model_fields)
        return f"model: unknown key {where!r:.200}. Known: {known}{hint and '.' + hint}"
    message = first["msg"].removeprefix("Value error, ")
    if not where:
        return f"model.{message}"
    return f"model.{where}: {message[0].lower()}{message[1:]}, got {first['input']!r:.200}"
