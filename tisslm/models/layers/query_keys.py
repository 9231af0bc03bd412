"""What happens to queries and keys between the product that makes them and attention.

Nothing; rotations by position; or a norm, and then either. What backward needs is computed again
from the product, so none of these keeps anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Buffer, PassContext
from tisslm.memory import Parameter, grads_to_write
from tisslm.models.layers.precision import Precision
from tisslm.models.rotary import RotaryTable

__all__ = ["AsProjected", "NormedHeads", "QueryKeys", "Rotated"]

Array = NDArray[Any]


class QueryKeys(ABC):
    """A map of the queries and keys in rows of E = (H + 2K) D channels; values pass unchanged."""

    def plan(self, shape: tuple[int, int], wide: int) -> dict[str, Buffer]:
        """Name the scratch for a pass of shape (B, T) over rows of E channels; the base: none."""
        return {}

    @abstractmethod
    def forward(self, qkv_BTE: Array, scratch: Mapping[str, Array], ctx: PassContext) -> Array:
        """Return what attention is to use: the array itself, changed in place, or scratch."""

    def used(self, qkv_BTE: Array, scratch: Mapping[str, Array]) -> Array:
        """Return what attention has used, while the scratch of ``forward`` is as it was left."""
        return qkv_BTE

    def again(self, qkv_BTE: Array, scratch: Mapping[str, Array], ctx: PassContext) -> Array:
        """Return the same in backward, given the array that ``forward`` left and other scratch."""
        return qkv_BTE

    @abstractmethod
    def backward(
        self, d_qkv_BTE: Array, qkv_BTE: Array, scratch: Mapping[str, Array], ctx: PassContext
    ) -> None:
        """Turn, in place, the gradient by what attention used into that by the product.

        Called after ``again`` with the same scratch.
        """

    @abstractmethod
    def decode(self, qkv_BE: Array, position_B: Array) -> None:
        """Change, in place, the queries and keys of one new token of each sequence."""


@final
class AsProjected(QueryKeys):
    """Queries and keys as the product made them."""

    def forward(self, qkv_BTE: Array, scratch: Mapping[str, Array], ctx: PassContext) -> Array:
        """Return the array."""
        return qkv_BTE

    def backward(
        self, d_qkv_BTE: Array, qkv_BTE: Array, scratch: Mapping[str, Array], ctx: PassContext
    ) -> None:
        """Leave the gradient as it is."""

    def decode(self, qkv_BE: Array, position_B: Array) -> None:
        """Leave them as they are."""


@final
class Rotated(QueryKeys):
    """Rotary positions: pairs of channels are rotated by angles that grow with the position.

    The map of a row is orthogonal up to a factor, so its transpose takes the gradient back, and the
    array of the product may be overwritten.

    Parameters
    ----------
    n_head, n_kv_head : int
    table : RotaryTable

    References
    ----------
    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv 2104.09864.
    """

    def __init__(self, n_head: int, n_kv_head: int, table: RotaryTable) -> None:
        self.heads = (n_head, n_kv_head)
        self.table = table

    def forward(self, qkv_BTE: Array, scratch: Mapping[str, Array], ctx: PassContext) -> Array:
        """Rotate in place; positions count from the beginning of each token's document."""
        cos_PR, sin_PR = self.table.angles
        ops.rotary_forward(qkv_BTE, cos_PR, sin_PR, qkv_BTE, *self.heads, 0, ctx.start_BT)
        return qkv_BTE

    def backward(
        self, d_qkv_BTE: Array, qkv_BTE: Array, scratch: Mapping[str, Array], ctx: PassContext
    ) -> None:
        """Rotate the gradient back in place."""
        cos_PR, sin_PR = self.table.angles
        ops.rotary_backward(d_qkv_BTE, cos_PR, sin_PR, d_qkv_BTE, *self.heads, 0, ctx.start_BT)

    def decode(self, qkv_BE: Array, position_B: Array) -> None:
        """Rotate in place by the angles of each position: rows that began so long ago."""
        cos_PR, sin_PR = self.table.angles
        qkv_B1E, start_B1 = qkv_BE[:, None], -position_B[:, None]
        ops.rotary_forward(qkv_B1E, cos_PR, sin_PR, qkv_B1E, *self.heads, 0, start_B1)


@final
class NormedHeads(QueryKeys):
    """RMS normalization of queries and keys, and then another map.

    A weight of D elements normalizes each head by itself, one of all its heads' channels the heads
    together. The array of the product stays as it is, since backward differentiates the norm there.

    Parameters
    ----------
    n_head, n_kv_head : int
    q_weight, k_weight : Parameter of shape (D,), or (H D,) and (K D,)
    eps : float
        Added to the mean square.
    then : QueryKeys
        What follows; it works in place.
    precision : Precision

    References
    ----------
    Henry et al., "Query-Key Normalization for Transformers", arXiv 2010.04245.
    Dehghani et al., "Scaling Vision Transformers to 22 Billion Parameters", arXiv 2302.05442.
    """

    def __init__(
        self,
        n_head: int,
        n_kv_head: int,
        q_weight: Parameter,
        k_weight: Parameter,
        eps: float,
        then: QueryKeys,
        precision: Precision,
    ) -> None:
        self.heads = (n_head, n_kv_head)
        self.q_weight = q_weight
        self.k_weight = k_weight
        self.eps = eps
        self.then = then
        self.precision = precision

    def plan(self, shape: tuple[int, int], wide: int) -> dict[str, Buffer]:
        """Name what attention uses, the norms' statistics, and the partial sums of the weights."""
        (batch, time), stream = shape, self.precision.stream
        rows, widths = batch * time, self.q_weight.shape[0] + self.k_weight.shape[0]
        return {
            "seen": Buffer((batch, time, wide), self.precision.stored, "scratch"),
            "head_rstd": Buffer((rows, self._norms(wide)), stream, "scratch"),
            "head_partial": Buffer((-(-rows // 64), widths), stream, "scratch"),
        }

    def _norms(self, wide: int) -> int:
        """Return U, the norms of a row of E channels."""
        n_head, n_kv_head = self.heads
        size = wide // (n_head + 2 * n_kv_head)
        of_q, of_k = self.q_weight.shape[0], self.k_weight.shape[0]
        return n_head * size // of_q + n_kv_head * size // of_k

    def forward(self, qkv_BTE: Array, scratch: Mapping[str, Array], ctx: PassContext) -> Array:
        """Write the normalized queries and keys, and the values, to scratch."""
        self._normalize(qkv_BTE, scratch["head_rstd"], scratch["seen"])
        return self.then.forward(scratch["seen"], scratch, ctx)

    def used(self, qkv_BTE: Array, scratch: Mapping[str, Array]) -> Array:
        """Return what is in scratch."""
        return scratch["seen"]

    again = forward

    def _normalize(self, qkv_BTE: Array, rstd_NU: Array, out_BTE: Array) -> None:
        ops.head_norm_forward(
            qkv_BTE,
            self.q_weight.data,
            self.k_weight.data,
            rstd_NU,
            out_BTE,
            *self.heads,
            self.eps,
        )

    def backward(
        self, d_qkv_BTE: Array, qkv_BTE: Array, scratch: Mapping[str, Array], ctx: PassContext
    ) -> None:
        """Take the gradient back through what follows and the norm; accumulate the weights'."""
        self.then.backward(d_qkv_BTE, scratch["seen"], scratch, ctx)
        d_q, d_k, accumulate = grads_to_write(self.q_weight, self.k_weight)
        ops.head_norm_backward(
            d_qkv_BTE,
            qkv_BTE,
            self.q_weight.data,
            self.k_weight.data,
            scratch["head_rstd"],
            d_qkv_BTE,
            d_q,
            d_k,
            scratch["head_partial"],
            *self.heads,
            accumulate,
        )

    def decode(self, qkv_BE: Array, position_B: Array) -> None:
        """Normalize in place, then go on."""
        rstd_BU = np.empty((len(qkv_BE), self._norms(qkv_BE.shape[1])), qkv_BE.dtype)
        qkv_B1E = qkv_BE[:, None]
        self._normalize(qkv_B1E, rstd_BU, qkv_B1E)
        self.then.decode(qkv_BE, position_B)
