"""How alike vectors are: their cosine, or their dot product."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tisslm import ops
from tisslm.errors import ShapeError

__all__ = ["similarity", "to_length_one"]

Array = NDArray[Any]


def similarity(a: ArrayLike, b: ArrayLike, name: str) -> Array:
    """Return how alike each vector of ``a`` is to each of ``b``.

    Parameters
    ----------
    a, b : array_like of shape (P, E) and (Q, E), or (E,)
    name : {"cosine", "dot"}

    Returns
    -------
    ndarray of shape (P, Q), float32, or float64 of vectors of that

    Raises
    ------
    ShapeError
        If the vectors are of different lengths, or no numbers.
    """
    given = [np.atleast_2d(np.asarray(x)) for x in (a, b)]
    if any(x.ndim != 2 or x.dtype.kind not in "fiu" for x in given) or (
        given[0].shape[1] != given[1].shape[1]
    ):
        raise ShapeError(
            "similarity: expected vectors (P, E) and (Q, E) of real numbers, got "
            f"{np.shape(given[0])} {given[0].dtype} and {np.shape(given[1])} {given[1].dtype}"
        )
    dtype = np.promote_types(np.result_type(*given), np.float32)
    a_PE, b_QE = (np.array(x, dtype=dtype, order="C") for x in given)
    if name == "cosine":
        to_length_one(a_PE)
        to_length_one(b_QE)
    found_PQ = np.empty((len(a_PE), len(b_QE)), dtype=dtype)
    if found_PQ.size:
        ops.linear_forward(a_PE, b_QE, None, found_PQ)
    return found_PQ


def to_length_one(x_NE: Array) -> None:
    """Divide vectors by their length, in place; one of 0 stays as it is."""
    length_N = np.sqrt(np.einsum("ne,ne->n", x_NE, x_NE, dtype=np.float64))
    length_N[length_N == 0.0] = 1.0
    x_NE /= length_N[:, None].astype(x_NE.dtype)
