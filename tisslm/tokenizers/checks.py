"""Checks of the input of every tokenizer: text must be valid Unicode, ids must exist."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import DataError

__all__ = ["id_array", "utf8_bytes"]


def utf8_bytes(text: str, where: str) -> bytes:
    """Encode a text in UTF-8.

    Parameters
    ----------
    text : str
    where : str
        What the message begins with.

    Raises
    ------
    DataError
        If the text has a lone surrogate, which is no character and has no UTF-8 form.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: expected Unicode text, got the lone surrogate "
            f"U+{ord(text[error.start]):04X} at position {error.start}; read the file as UTF-8 "
            "without errors='surrogateescape'"
        ) from None


def id_array(ids: Any, vocab_size: int, where: str) -> NDArray[Any]:
    """Return ids as a one-dimensional integer array, after checking that all are in the vocabulary.

    Parameters
    ----------
    ids : sequence of int, or integer ndarray of shape (n,)
    vocab_size : int
    where : str
        What the message begins with.

    Raises
    ------
    DataError
        If the ids are not a flat sequence of integers, or one is not in ``range(vocab_size)``.
    """
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DataError(
            f"{where}: expected a flat sequence of integer ids, got {array.dtype} of shape "
            f"{array.shape}; decode one sequence at a time"
        )
    wrong = np.flatnonzero((array < 0) | (array >= vocab_size))
    if wrong.size:
        raise DataError(
            f"{where}: token id {array[wrong[0]]} at position {wrong[0]} is not in "
            f"range({vocab_size}), the vocabulary; use the tokenizer that the model was trained "
            "with"
        )
    return array.astype(np.int64)
