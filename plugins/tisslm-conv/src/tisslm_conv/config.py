"""The settings of a causal convolution model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from tisslm.errors import ConfigError

__all__ = ["ConvConfig"]


@dataclass(frozen=True)
class ConvConfig:
    """The configuration of a causal convolution model.

    Parameters
    ----------
    n_layer, n_embd, seq_len, vocab_size : int
        L, C, the longest T, and V.
    """

    n_layer: int
    n_embd: int
    seq_len: int
    vocab_size: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"model.{field.name}: expected an integer >= 1, got {value!r}")

    def values(self) -> dict[str, Any]:
        """Return all settings as plain JSON values."""
        return asdict(self)
