"""How frequencies of rotary positions are stretched, for longer texts than a model was made for.

Four kinds, as the files of published models name them, and in the arithmetic with which these were
trained: float32, in the order of Hugging Face transformers. A division of a number by an array is,
as PyTorch has it, a product with the reciprocal. What turns frequencies into tables is ``rotary``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import ConfigError
from tisslm.errors.suggestions import did_you_mean

__all__ = ["Linear", "Llama3", "RopeScaling", "Unscaled", "Yarn"]

Array = NDArray[np.float32]

#: Where in a configuration the mapping stands.
_WHERE = "model.rope_scaling"

#: Either names the kind; files before 2024 have the second.
_KIND_KEYS = ("rope_type", "type")

_TYPES = {"float": (int, float), "int": (int,), "bool": (bool,)}
#: Numbers end here, so that float32 holds each of them.
_END = 2**31
#: A factor, what 0 switches off, and turns, which divide; other numbers are above 0.
_FROM_1, _FROM_0, _TURNS = {"least": 1}, {"least": 0}, {"least": 0.001}

_WORDS = {"float": "a number", "int": "a whole number", "bool": "true or false"}

_LENGTH = "original_max_position_embeddings"

#: Kinds that there are elsewhere: their angles follow from the length of the text of a call, so a
#: token's would change with what comes after it.
_OF_A_CALL = ("dynamic", "longrope")


@dataclass(frozen=True)
class RopeScaling(ABC):
    """What becomes of the unscaled frequencies; ``RopeScaling.parse`` makes one of a mapping."""

    kind: ClassVar[str]

    @abstractmethod
    def frequencies(self, power_R: Array, theta: float) -> Array:
        """Return the frequencies to use, in float32; unscaled they are ``1 / power``.

        Parameters
        ----------
        power_R : ndarray of float32
            ``theta^(i / R)``.
        theta : float
        """

    @property
    def magnitude(self) -> float:
        """What cosines and sines are multiplied by."""
        return 1.0

    def values(self) -> dict[str, Any]:
        """Return plain JSON values, of which ``parse`` makes an equal object."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"rope_type": self.kind, **{k: v for k, v in own.items() if v is not None}}

    @staticmethod
    def parse(given: Mapping[str, Any] | None, seq_len: int) -> RopeScaling:
        """Check a mapping, as configurations and the files of published models have it.

        Parameters
        ----------
        given : mapping or None
            ``rope_type``, or ``type``, and the numbers of this kind; None: unscaled.
        seq_len : int
            Stands for ``original_max_position_embeddings`` where a kind needs it and it is not
            given.

        Raises
        ------
        ConfigError
            If the kind is unknown or depends on the length of a call, or a key is missing, unknown,
            of another type or out of range. Messages begin with ``model.rope_scaling``.
        """
        if given is None:
            return Unscaled()
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"{_WHERE}: expected a table with rope_type and its numbers, got {given!r:.200}"
            )
        cls = _KINDS[_kind_of(given)]
        known = {f.name: f for f in fields(cls)}
        numbers = {key: value for key, value in given.items() if key not in _KIND_KEYS}
        for key in numbers:
            if key not in known:
                expected = f"Known: {', '.join(known)}" if known else "It takes no other key"
                raise ConfigError(
                    f"{_WHERE}: unknown key {key!r:.200} of rope_type {cls.kind!r}. "
                    f"{expected}{_hint(key, known)}"
                )
        if _LENGTH in known:
            numbers.setdefault(_LENGTH, seq_len)
        return cls(**{name: _checked(f, numbers, cls.kind) for name, f in known.items()})


@final
@dataclass(frozen=True)
class Unscaled(RopeScaling):
    """Frequencies as they are."""

    kind = "default"

    def frequencies(self, power_R: Array, theta: float) -> Array:
        """Return ``1 / power``."""
        return np.reciprocal(power_R)


@final
@dataclass(frozen=True)
class Linear(RopeScaling):
    """All frequencies divided by a factor (Chen et al., arXiv 2306.15595)."""

    kind = "linear"

    factor: float = field(metadata=_FROM_1)

    def frequencies(self, power_R: Array, theta: float) -> Array:
        """Return ``1 / power / factor``."""
        divided_R: Array = np.divide(np.reciprocal(power_R), np.float32(self.factor))
        return divided_R


@final
@dataclass(frozen=True)
class Llama3(RopeScaling):
    """Low frequencies divided by a factor, high ones kept, those between them mixed (Llama 3.1)."""

    kind = "llama3"

    factor: float = field(metadata=_FROM_1)
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __post_init__(self) -> None:
        if self.high_freq_factor <= self.low_freq_factor:
            raise ConfigError(
                f"{_WHERE}.high_freq_factor: expected a number above low_freq_factor = "
                f"{self.low_freq_factor}, got {self.high_freq_factor}"
            )

    def frequencies(self, power_R: Array, theta: float) -> Array:
        """Divide those whose wavelength is above ``original / low_freq_factor``."""
        length, factor = self.original_max_position_embeddings, np.float32(self.factor)
        low, high, one = self.low_freq_factor, self.high_freq_factor, np.float32(1)
        unscaled_R = np.reciprocal(power_R)
        wavelength = np.reciprocal(unscaled_R) * np.float32(2 * math.pi)
        is_long, is_short = wavelength > length / low, wavelength < length / high
        found = np.where(is_long, unscaled_R / factor, unscaled_R)
        turns = np.reciprocal(wavelength) * np.float32(length)
        smooth = (turns - np.float32(low)) / np.float32(high - low)
        mixed = (one - smooth) * found / factor + smooth * found
        return np.where(is_long | is_short, found, mixed)


@final
@dataclass(frozen=True)
class Yarn(RopeScaling):
    """Each frequency kept or divided by how often it turns within the original length.

    Those of more than ``beta_fast`` turns are kept, those of fewer than ``beta_slow`` divided by
    ``factor``, and between them is a ramp over the channels, from and to whole ones with
    ``truncate``. Cosines and sines are multiplied by ``attention_factor``, which follows from
    ``factor``, ``mscale`` and ``mscale_all_dim`` where it is not given.

    References
    ----------
    Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", arXiv
    2309.00071.
    """

    kind = "yarn"

    factor: float = field(metadata=_FROM_1)
    original_max_position_embeddings: int
    beta_fast: float = field(default=32.0, metadata=_TURNS)
    beta_slow: float = field(default=1.0, metadata=_TURNS)
    truncate: bool = True
    attention_factor: float | None = None
    mscale: float | None = field(default=None, metadata=_FROM_0)
    mscale_all_dim: float | None = field(default=None, metadata=_FROM_0)

    def __post_init__(self) -> None:
        if self.beta_fast < self.beta_slow:
            raise ConfigError(
                f"{_WHERE}.beta_fast: expected at least beta_slow = {self.beta_slow}, got "
                f"{self.beta_fast}"
            )

    @property
    def magnitude(self) -> float:
        """The attention factor: ``0.1 ln(factor) + 1``, or a quotient of two such numbers."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._magnitude(self.mscale) / self._magnitude(self.mscale_all_dim)
        return self._magnitude(1.0)

    def _magnitude(self, scale: float) -> float:
        return 1.0 if self.factor <= 1 else 0.1 * scale * math.log(self.factor) + 1.0

    def frequencies(self, power_R: Array, theta: float) -> Array:
        """Mix ``1 / (factor power)`` and ``1 / power`` by the ramp."""
        pairs, one = len(power_R), np.float32(1)
        low = self._channel(self.beta_fast, pairs, theta)
        high = self._channel(self.beta_slow, pairs, theta)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * pairs - 1)
        if low == high:
            high += 0.001
        ramp = (np.arange(pairs, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
        kept = one - np.clip(ramp, 0, 1)
        divided_R = np.reciprocal(np.float32(self.factor) * power_R)
        mixed_R: Array = divided_R * (one - kept) + np.reciprocal(power_R) * kept
        return mixed_R

    def _channel(self, turns: float, pairs: int, theta: float) -> float:
        """Return the channel, as a fraction, that makes so many turns in the original length."""
        longest = self.original_max_position_embeddings / (turns * 2 * math.pi)
        return 2 * pairs * math.log(longest) / (2 * math.log(theta))


_KINDS: dict[str, type[RopeScaling]] = {cls.kind: cls for cls in (Unscaled, Linear, Llama3, Yarn)}


def _kind_of(given: Mapping[str, Any]) -> str:
    named = {key: given[key] for key in _KIND_KEYS if key in given}
    possible = ", ".join(_KINDS)
    if not named:
        raise ConfigError(f"{_WHERE}.rope_type: a value is needed, one of {possible}")
    kind, *others = named.values()
    if others and others[0] != kind:
        raise ConfigError(
            f"{_WHERE}: expected rope_type and type to be the same, got {kind!r:.200} and "
            f"{others[0]!r:.200}. Leave out type"
        )
    if kind in _OF_A_CALL:
        raise ConfigError(
            f"{_WHERE}.rope_type: {kind!r} is not possible, for its angles depend on the length of "
            f"the text of a call, and here a token's depend on its position alone. Take one of "
            f"{possible}"
        )
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(
            f"{_WHERE}.rope_type: expected one of {possible}, got {kind!r:.200}"
            f"{_hint(kind, _KINDS)}"
        )
    return kind


def _hint(name: object, known: Mapping[str, Any]) -> str:
    hint = did_you_mean(name, known) if isinstance(name, str) else ""
    return hint and "." + hint


def _checked(known: Field[Any], numbers: Mapping[str, Any], kind: str) -> Any:
    """Return the value of a field, of its type and in its range; None is as if left out."""
    value = numbers.get(known.name)
    if value is None:
        if known.default is MISSING:
            raise ConfigError(
                f"{_WHERE}.{known.name}: a value is needed for rope_type {kind!r}; set it"
            )
        return known.default
    expected, least = str(known.type).partition(" | ")[0], known.metadata.get("least")
    fits = isinstance(value, _TYPES[expected]) and (expected == "bool") == isinstance(value, bool)
    if fits and expected != "bool":
        fits = (value > 0 if least is None else least <= value) and value < _END
    if not fits:
        above = "above 0" if least is None else f"of at least {least}"
        between = "" if expected == "bool" else f" {above} and below {_END}"
        raise ConfigError(
            f"{_WHERE}.{known.name}: expected {_WORDS[expected]}{between}, got {value!r:.200}"
        )
    return float(value) if expected == "float" else value
