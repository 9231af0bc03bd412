"""From the normalized stream to a vector of each text: pooling, projection, normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import TextBatch
from tisslm.models.layers.linear import Linear

__all__ = ["Vectors", "VectorsCache"]

Array = NDArray[Any]

#: Lengths below it divide as it does, as in PyTorch's normalize.
LEAST_LENGTH = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class VectorsCache:
    """What backward needs: rows p are texts in the order of their places, not that of the batch.

    Attributes
    ----------
    order_P : ndarray of int64
        The text of each row.
    first_P, stop_P : ndarray of int64
        Their places.
    argmax_PC : ndarray of int32, optional
        Of the maximum: which token has it.
    pooled_PC, vectors_PE : ndarray
        Before the projection, and after all.
    length_P1 : ndarray, optional
        What vectors were divided by.
    """

    order_P: Array  # noqa: N815
    first_P: Array  # noqa: N815
    stop_P: Array  # noqa: N815
    argmax_PC: Array | None  # noqa: N815
    pooled_PC: Array  # noqa: N815
    vectors_PE: Array  # noqa: N815
    length_P1: Array | None  # noqa: N815


@final
class Vectors:
    """Pools the rows of each text, projects what comes out, and divides it by its length.

    With h the rows of a text: ``y = W pool(h)`` and ``e = y / |y|``, so that
    ``dy = (de - e (e . de)) / |y|``.

    Parameters
    ----------
    pooling : {"mean", "last", "max"}
    projection : Linear, optional
        Of C channels to E.
    normalize : bool
    """

    def __init__(self, pooling: str, projection: Linear | None, normalize: bool) -> None:
        self.kind = ops.POOLINGS[pooling]
        self.finds_places = pooling == "max"
        self.projection = projection
        self.normalize = normalize

    def forward(self, hidden_NC: Array, texts: TextBatch, dtype: str) -> VectorsCache:
        """Return the vectors, in new arrays of this type, with what backward needs."""
        order_P = np.argsort(texts.first_P, kind="stable")
        first_P, stop_P = texts.first_P[order_P], texts.stop_P[order_P]
        shape = (len(order_P), hidden_NC.shape[1])
        argmax_PC = np.empty(shape, np.int32) if self.finds_places else None
        pooled_PC = np.empty(shape, dtype)
        ops.pool_forward(hidden_NC, first_P, stop_P, pooled_PC, self.kind, argmax_PC)
        y_PE = pooled_PC
        if self.projection is not None:
            y_PE = np.empty((len(order_P), self.projection.weight.shape[0]), dtype)
            self.projection.forward(pooled_PC, y_PE)
        length_P1 = _lengths(y_PE) if self.normalize else None
        vectors_PE = y_PE if length_P1 is None else (y_PE / length_P1).astype(dtype)
        return VectorsCache(order_P, first_P, stop_P, argmax_PC, pooled_PC, vectors_PE, length_P1)

    @staticmethod
    def in_order(cache: VectorsCache) -> Array:
        """Return the vectors in the order of the batch's texts, in a new array."""
        found_PE = np.empty_like(cache.vectors_PE)
        found_PE[cache.order_P] = cache.vectors_PE
        return found_PE

    def backward(self, d_PE: Array, cache: VectorsCache, dh_NC: Array) -> None:
        """Write the gradient by the normalized stream, and add that of the projection.

        ``d_PE`` is in the order of the batch's texts, and is only read.
        """
        dy_PE = d_PE[cache.order_P]
        if cache.length_P1 is not None:
            dy_PE = _backward_normalize(dy_PE, cache.vectors_PE, cache.length_P1)
        if self.projection is not None:
            d_PC = np.empty_like(cache.pooled_PC)
            self.projection.backward(dy_PE, cache.pooled_PC, d_PC)
            dy_PE = d_PC
        places = (cache.first_P, cache.stop_P)
        ops.pool_backward(dy_PE, *places, dh_NC, self.kind, cache.argmax_PC)


def _lengths(y_PE: Array) -> Array:
    """Return the length of each row in float64, shape (P, 1), and never less than the least."""
    squares_P1 = np.square(y_PE, dtype=np.float64).sum(axis=1, keepdims=True)
    lengths_P1: Array = np.maximum(np.sqrt(squares_P1), LEAST_LENGTH)
    return lengths_P1


def _backward_normalize(d_PE: Array, e_PE: Array, length_P1: Array) -> Array:
    """Return the gradient by what was divided; a row of the least length was divided by that."""
    along_P1 = np.multiply(d_PE, e_PE, dtype=np.float64).sum(axis=1, keepdims=True)
    along_P1[length_P1 <= LEAST_LENGTH] = 0.0
    dy_PE: Array = ((d_PE - e_PE * along_P1) / length_P1).astype(d_PE.dtype)
    return dy_PE
