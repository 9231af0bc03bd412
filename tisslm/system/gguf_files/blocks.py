"""Quantized blocks: numbers of few bits with a scale, by the arithmetic of the package ``gguf``."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import ConfigError
from tisslm.system.gguf_files.kinds import TensorKind

__all__ = ["dequantized", "quantized"]

Array = NDArray[Any]


def _quants() -> ModuleType:
    try:
        from gguf import quants
    except ImportError:
        raise ConfigError(
            "GGUF: quantized tensors need the package gguf, which is not installed; run pip "
            "install tisslm[gguf]"
        ) from None
    return quants


def _type_of(kind: TensorKind) -> Any:
    from gguf.constants import GGMLQuantizationType

    try:
        return GGMLQuantizationType(kind.number)
    except ValueError:
        raise NotImplementedError from None


def dequantized(bytes_: NDArray[np.uint8], kind: TensorKind) -> Array:
    """Return the numbers of whole blocks in float32, as one axis.

    Raises
    ------
    ConfigError
        If the package is not installed.
    NotImplementedError
        If it cannot dequantize blocks of this type.
    """
    # as one row: the package goes through rows sixteen at a time
    quants = _quants()
    row: Array = quants.dequantize(bytes_.reshape(1, -1), _type_of(kind))
    return row.reshape(-1)


def quantized(x: Array, kind: TensorKind) -> Array:
    """Return the blocks of float32 numbers as bytes, as one axis.

    Raises
    ------
    ConfigError
        If the package is not installed.
    """
    quants = _quants()
    row: Array = quants.quantize(x.reshape(1, -1), _type_of(kind))
    return row.reshape(-1)
