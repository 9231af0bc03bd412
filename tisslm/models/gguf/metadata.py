"""Keys of a GGUF file's metadata, each of a type and in a range, and none that is not known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tisslm.system.safe_files import Refusal, show

__all__ = ["Keys"]


#: The largest count of metadata: 32 bits without sign.
_END = 2**32

#: Keys that say nothing here, whatever they say.
_IDLE = ("vocab_size", "tensor_data_layout", "pooling_type", "rope.scaling.finetuned")

#: Values with which a key changes nothing; with any other, it changes what is computed.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "expert_used_count": (0,),
    "expert_shared_count": (0,),
    "leading_dense_block_count": (0,),
    "logit_scale": (0, 1),
    "residual_scale": (0, 1),
    "embedding_scale": (0, 1),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.causal": (True,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "rope.scaling.attn_factor": (1,),
    "rope.scaling.yarn_attn_factor": (1,),
    "rope.scaling.yarn_ext_factor": (-1, 1),
    "rope.scaling.yarn_log_multiplier": (0,),
}


class Keys:
    """The keys of one architecture, or of the tokenizer: those under a prefix.

    Parameters
    ----------
    metadata : mapping
    prefix : str
    path : str
        The file, for messages.
    refusal : Refusal
    """

    def __init__(
        self, metadata: Mapping[str, Any], prefix: str, path: str, refusal: Refusal
    ) -> None:
        self._metadata, self._prefix = metadata, prefix
        self._path, self._refusal = path, refusal
        self._asked: set[str] = set()

    def refused(self, reason: str) -> Exception:
        """Return the error for a reason."""
        return self._refusal(self._path, reason)

    def __contains__(self, key: object) -> bool:
        return f"{self._prefix}.{key}" in self._metadata

    def _get(self, key: str) -> tuple[str, Any]:
        self._asked.add(key)
        return (name := f"{self._prefix}.{key}"), self._metadata.get(name)

    def _wrong(self, name: str, expected: str, value: object) -> Exception:
        got = "none" if value is None else show(value)
        return self.refused(f"{name}: expected {expected}, got {got}")

    def count(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """Return an integer; without a default, it must be there."""
        name, value = self._get(key)
        value = default if value is None else value
        if type(value) is not int or not least <= value < _END:
            raise self._wrong(name, f"an integer of at least {least}", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a finite number above 0."""
        name, value = self._get(key)
        value = default if value is None else value
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 < value < math.inf
        ):
            raise self._wrong(name, "a finite number above 0", value)
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return a truth value."""
        name, value = self._get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text."""
        name, value = self._get(key)
        value = default if value is None else value
        if not isinstance(value, str):
            raise self._wrong(name, "a text", value)
        return value

    def texts(self, key: str, default: list[str] | None = None) -> list[str]:
        """Return a list of texts."""
        name, value = self._get(key)
        value = default if value is None else value
        if not isinstance(value, list):
            raise self._wrong(name, "a list of texts", value)
        return value

    def numbers(self, key: str, count: int) -> list[Any] | None:
        """Return a list of so many numbers, or None if it is not there."""
        name, value = self._get(key)
        if value is None:
            return None
        if not hasattr(value, "dtype") or len(value) != count:
            raise self._wrong(name, f"a list of {count} numbers", value)
        found: list[Any] = value.tolist()
        return found

    def check_rest(self, head_dim: int) -> None:
        """Refuse a key that nobody has asked for, unless it says nothing, or what is done anyway.

        Parameters
        ----------
        head_dim : int
            D: the scale of attention is 1 / sqrt(D).
        """
        for name, value in self._metadata.items():
            key = name.removeprefix(f"{self._prefix}.")
            if key == name or key in self._asked or key in _IDLE:
                continue
            if key == "attention.scale":
                done = isinstance(value, float) and math.isclose(
                    value, head_dim**-0.5, rel_tol=1e-6
                )
            else:
                done = isinstance(value, int | float) and value in _NEUTRAL.get(key, ())
            if not done:
                raise self.refused(
                    f"{name} is {show(value)}, and what it changes is not computed here"
                )
