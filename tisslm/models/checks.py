"""Checks of a model's inputs: parameters, token ids, starts of documents, and gradients.

Ids beyond the vocabulary are found by ``layers.embedding``, which reads them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import DataError, ShapeError
from tisslm.memory import Parameters, ParameterSpec

__all__ = ["check_parameters", "check_starts", "check_tokens", "gradient_rows"]

Array = NDArray[Any]


def check_parameters(parameters: Parameters, specs: Iterable[ParameterSpec], dtype: str) -> None:
    """Raise an error unless parameters have the names, shapes and type of a model.

    Raises
    ------
    ShapeError
        If a parameter differs, is missing, or is superfluous; the message names the first.
    """
    found = {p.name: p.shape for p in parameters}
    for spec in specs:
        shape = found.pop(spec.name, None)
        if shape != spec.shape:
            got = "none" if shape is None else f"{shape}"
            raise ShapeError(f"parameters: expected {spec.name} of shape {spec.shape}, got {got}")
    if found:
        raise ShapeError(f"parameters: {next(iter(found))} is none of this model's")
    if parameters.dtype != dtype:
        raise ShapeError(f"parameters: expected type {dtype}, got {parameters.dtype}")


def check_tokens(x: Array, seq_len: int, vocab_size: int) -> None:
    """Raise an error unless x is an array of token ids of shape (B, T) with T up to ``seq_len``.

    Raises
    ------
    ShapeError
        If it is no such array.
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


def check_starts(start: Array, shape: tuple[int, ...]) -> None:
    """Raise an error unless ``start`` says where in its row the document of each token begins.

    Parameters
    ----------
    start : ndarray
        Each element is its own position, where a document begins, or equals the element before it.
    shape : tuple of int
        (B, T) of the tokens.

    Raises
    ------
    ShapeError
        If it is no integer array of this shape.
    DataError
        If an element is neither.
    """
    is_array = isinstance(start, np.ndarray)
    if not is_array or start.shape != shape or start.dtype.kind not in "iu":
        got = f"{start.dtype} of shape {start.shape}" if is_array else type(start).__name__
        raise ShapeError(
            f"start: expected integers of the tokens' shape {shape}, the position in its row at "
            f"which the document of each token begins, got {got}"
        )
    for row, start_T in enumerate(start):  # row by row, so that no step asks for a large block
        begins = np.flatnonzero(start_T[1:] != start_T[:-1]) + 1
        if start_T[0] != 0 or (start_T[begins] != begins).any():
            raise _wrong_start(start_T, row)


def _wrong_start(start_T: Array, row: int) -> DataError:
    """Return the error for the first start in a row that does not fit its position."""
    right = (start_T == np.arange(len(start_T))) | (start_T == np.roll(start_T, 1))
    right[0] = start_T[0] == 0
    time = int(np.argmin(right))
    expected = f"{start_T[time - 1]} (as before it) or {time} (a document begins)"
    return DataError(
        f"start: expected {expected if time else '0'} at row {row}, position {time}, got "
        f"{start_T[time]}. It is the position in the row at which the token's document begins"
    )


def gradient_rows(d_logits: Array, shape: tuple[int, int, int], dtype: str) -> Array:
    """Return a gradient by the logits as a contiguous array of shape (N, V).

    Raises
    ------
    ShapeError
        If it has another shape or type.
    """
    if d_logits.shape != shape or d_logits.dtype != dtype:
        raise ShapeError(
            f"model.backward: expected d_logits of shape {shape} {dtype}, "
            f"got {d_logits.shape} {d_logits.dtype}"
        )
    return np.ascontiguousarray(d_logits).reshape(-1, shape[-1])
