"""A published model: settings, arrays by our own names, and perhaps a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

__all__ = ["Published"]


@dataclass(frozen=True)
class Published:
    """What a file or folder of published weights holds, in the terms of this package.

    Attributes
    ----------
    settings : mapping
        Family and shape, as ``TransformerConfig`` takes them.
    arrays : mapping of str to ndarray
        By the names of our parameters: float32, float16, float64, or uint16 for bfloat16.
    where : str
        The file or folder, for messages.
    tokenizer : mapping, optional
        The state of the bpe tokenizer, if the source has it inside.
    """

    settings: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    where: str
    tokenizer: Mapping[str, Any] | None = None
