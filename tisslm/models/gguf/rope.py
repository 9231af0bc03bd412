"""Scaled rotary positions in the words of GGUF: keys, or a tensor of factors.

``linear`` and ``yarn`` are keys. The scaling of Llama 3 has none: a file has the tensor
``rope_freqs.weight``, by which frequencies are divided, computed from four numbers of which three
can be told from it. They are found again, so that the frequencies are computed as those were with
which the weights were trained, and what is written once more says the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.config.model import RopeScaling
from tisslm.models.gguf.metadata import Keys
from tisslm.models.rotary import Rotary

__all__ = ["FACTORS", "factors_of", "scaling_keys", "scaling_of"]

Array = NDArray[Any]

#: The tensor of Llama 3's scaling.
FACTORS = "rope_freqs.weight"

#: What YaRN has where a file says nothing, and everywhere in what is written.
_YARN = {"beta_fast": 32.0, "beta_slow": 1.0}

_CLOSE = 1e-5  # float32's rounding, a few times


def scaling_of(
    keys: Keys, factors_R: Array | None, head_dim: int, theta: float
) -> dict[str, Any] | None:
    """Return ``rope_scaling`` as a configuration has it.

    Parameters
    ----------
    keys : Keys
        Of the architecture.
    factors_R : ndarray of shape (D / 2,), optional
        The tensor ``rope_freqs.weight``.
    head_dim : int
    theta : float

    Raises
    ------
    TissLMError
        If it is of another kind, or the factors are none of Llama 3's scaling.
    """
    old = keys.number("rope.scale_linear", 1.0)
    factor = keys.number("rope.scaling.factor", old)
    kind = keys.text("rope.scaling.type", "linear")
    length = keys.count("rope.scaling.original_context_length", 0, least=0)
    turns = {name: keys.number(f"rope.scaling.yarn_{name}", _YARN[name]) for name in _YARN}
    if kind not in ("none", "linear", "yarn"):
        raise keys.refused(
            f"rope.scaling.type: expected none, linear or yarn, got {kind!r:.60}, whose angles "
            "are not computed here"
        )
    if kind == "none" or (kind == "linear" and factor == 1):
        return None if factors_R is None else _llama3(keys, factors_R, head_dim, theta)
    if factors_R is not None:
        raise keys.refused(f"expected either {FACTORS} or rope.scaling.type {kind}, got both")
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    said = {name: value for name, value in turns.items() if value != _YARN[name]}
    said["original_max_position_embeddings"] = length or keys.count("context_length")
    return {"rope_type": "yarn", "factor": factor, **said}


def _llama3(keys: Keys, factors_R: Array, head_dim: int, theta: float) -> dict[str, Any] | None:
    """Return the numbers of which the factors were computed.

    Where frequencies go over from being kept to being divided, ``1 / factor`` is linear in them,
    so two give the line. Only quotients of the numbers matter: ``low_freq_factor`` is taken as 1,
    as it is in every published model.
    """
    wide_R = factors_R.astype(np.float64)
    if wide_R.shape != (head_dim // 2,) or not np.isfinite(wide_R).all() or wide_R.min() < 1 - 1e-6:
        raise keys.refused(
            f"{FACTORS}: expected {head_dim // 2} finite factors of at least 1, got others"
        )
    largest = float(str(factors_R.max()))
    if largest <= 1:
        return None
    guesses = [(8192, 4.0)]
    between_R = (wide_R > 1 + _CLOSE) & (wide_R < largest * (1 - _CLOSE))
    if between_R.sum() >= 2:
        turns_R = Rotary(head_dim, 1.0, theta).frequencies().astype(np.float64) / (2 * math.pi)
        share_R = (1 / wide_R - 1 / largest) / (1 - 1 / largest)
        slope, shift = np.polyfit(turns_R[between_R], share_R[between_R], 1)
        if shift < 0 < slope:
            high = 1 - 1 / shift
            guesses.insert(0, (round(slope * (high - 1)), float(f"{high:.4g}")))
    for length, high in guesses:
        found = {
            "rope_type": "llama3",
            "factor": largest,
            "low_freq_factor": 1.0,
            "high_freq_factor": high,
            "original_max_position_embeddings": length,
        }
        if 0 < length < 2**31 and high > 1 and _gives(found, factors_R, head_dim, theta):
            return found
    raise keys.refused(
        f"{FACTORS}: expected the factors of Llama 3's scaling, by which frequencies are kept, "
        "divided by one number, or in between, got others, which are not computed here"
    )


def _gives(scaling: Mapping[str, Any], factors_R: Array, head_dim: int, theta: float) -> bool:
    return np.allclose(factors_of(scaling, head_dim, theta), factors_R, rtol=_CLOSE, atol=0)


def factors_of(scaling: Mapping[str, Any], head_dim: int, theta: float) -> Array:
    """Return by what a scaling divides the frequencies, in float32, of shape (D / 2,)."""
    plain_R = Rotary(head_dim, 1.0, theta).frequencies().astype(np.float64)
    scaled_R = Rotary(head_dim, 1.0, theta, RopeScaling.parse(scaling, 1)).frequencies()
    return (plain_R / scaled_R).astype(np.float32)


def scaling_keys(scaling: Mapping[str, Any] | None, seq_len: int) -> dict[str, Any] | None:
    """Return the keys that say a scaling, without their prefix; None if GGUF cannot say it.

    Llama 3's has no keys: ``factors_of`` is its tensor.

    Parameters
    ----------
    scaling : mapping, optional
        As ``TransformerConfig`` has it.
    seq_len : int
        Stands for the original length where it is not given.
    """
    found = RopeScaling.parse(scaling, seq_len).values()
    kind = found.pop("rope_type")
    if kind in ("default", "llama3"):
        return {}
    if kind == "linear":
        return {"rope.scaling.type": kind, "rope.scaling.factor": float(found["factor"])}
    factor, length = found.pop("factor"), found.pop("original_max_position_embeddings")
    if {key: value for key, value in found.items() if value} != {**_YARN, "truncate": True}:
        return None
    return {
        "rope.scaling.type": kind,
        "rope.scaling.factor": float(factor),
        "rope.scaling.original_context_length": length,
    }
