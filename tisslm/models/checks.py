"""What a pass refuses: token ids and gradients of a wrong type or shape.

What does not live here: ids beyond the vocabulary; the embedding finds them as it reads them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import DataError, ShapeError

__all__ = ["check_tokens", "gradient_rows"]

Array = NDArray[Any]


def check_tokens(x: Array, seq_len: int, vocab_size: int) -> None:
    """Refuse what are not token ids of shape (B, T) with T up to ``seq_len``.

    Raises
    ------
    ShapeError
        If they are no such array.
    DataError
        If an id does not fit 32 bits.
    """
    if not isinstance(x, np.ndarray) or x.ndim != 2 or x.dtype.kind not in "iu" or x.size == 0:
        got = f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise ShapeError(f"model: expected integer token ids of shape (B, T), got {got}")
    if x.shape[1] > seq_len:
        raise ShapeError(
            f"model: expected sequences of at most {seq_len} tokens (model.seq_len), "
            f"got {x.shape[1]}. Cut the sequences or build a model with a larger seq_len"
        )
    if x.dtype.itemsize > 4 and not -(2**31) <= int(x.min()) <= int(x.max()) < 2**31:
        raise DataError(f"token ids: expected ids below {vocab_size}, got {int(x.max())}")


def gradient_rows(d_logits: Array, shape: tuple[int, int, int], dtype: str) -> Array:
    """Return the rows of a gradient by the logits, shape (N, V), each after the other in memory.

    Raises
    ------
    ShapeError
        If its shape or type is another.
    """
    if d_logits.shape != shape or d_logits.dtype != dtype:
        raise ShapeError(
            f"model.backward: expected d_logits of shape {shape} {dtype}, "
            f"got {d_logits.shape} {d_logits.dtype}"
        )
    return np.ascontiguousarray(d_logits).reshape(-1, shape[-1])
