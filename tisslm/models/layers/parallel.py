"""A block whose attention and MLP read the same stream: h += attention(h) + mlp(h)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Buffer, Layer, PassContext
from tisslm.models.layers.attention import Attention
from tisslm.models.layers.mlp import MLP

__all__ = ["ParallelBlock"]

Array = NDArray[Any]


@final
class ParallelBlock(Layer):
    """Attention and MLP side by side, each with a norm of its own over the same rows.

    Both norms are of one kind and normalize the same rows, so the stored stream and the statistics
    are one for both: the names of what attention and MLP save are the same there, and so are the
    arrays. What the MLP's norm adds is its weight.

    Parameters
    ----------
    attention : Attention
    mlp : MLP

    References
    ----------
    Wang and Komatsuzaki, "GPT-J-6B", 2021.
    Black et al., "GPT-NeoX-20B", arXiv 2204.06745, section 2.1.
    """

    def __init__(self, attention: Attention, mlp: MLP) -> None:
        self.attention = attention
        self.mlp = mlp

    def plan(self, shape: tuple[int, int]) -> dict[str, Buffer]:
        """Return the buffers of both, and scratch for the gradient that both start from."""
        rows, channels = shape[0] * shape[1], self.attention.out.weight.shape[0]
        return {
            **self.attention.plan(shape),
            **self.mlp.plan(shape),
            "d_out": Buffer((rows, channels), self.attention.precision.stream, "scratch"),
        }

    def forward(
        self,
        h_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Add both to the residual stream; the MLP reads the stream that attention has saved."""
        self.attention.forward(h_NC, saved, scratch, ctx)
        self.mlp.add(h_NC, saved, scratch, ctx)

    def shown(
        self, saved: Mapping[str, Array], scratch: Mapping[str, Array], ctx: PassContext
    ) -> Mapping[str, Array]:
        """Return what both show."""
        return self.mlp.shown(self.attention.shown(saved, scratch, ctx), scratch, ctx)

    def backward(
        self,
        dh_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Replace the gradient by the output with that by the input of the block."""
        d_out = scratch["d_out"][: len(dh_NC)]
        np.copyto(d_out, dh_NC)
        self.mlp.pull(d_out, dh_NC, saved, scratch, ctx)
        self.attention.pull(d_out, dh_NC, saved, scratch, ctx)

    def recompute(
        self,
        h_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        ctx: PassContext,
    ) -> None:
        """Compute what ``forward`` saves, without the last product, which is not saved."""
        self.attention.forward(h_NC, saved, scratch, ctx)
        self.mlp.save(saved, scratch, ctx)

    def cache_plan(self, batch: int, context: int) -> dict[str, Buffer]:
        """Return the buffers of attention."""
        return self.attention.cache_plan(batch, context)

    def fill_cache(self, cache: Mapping[str, Array], shown: Mapping[str, Array], time: int) -> None:
        """Store the keys and values of a prompt."""
        self.attention.fill_cache(cache, shown, time)

    def decode(self, h_BC: Array, cache: Mapping[str, Array], position_B: Array) -> None:
        """Add both for one new token per sequence."""
        added = self.mlp.branch(h_BC)
        self.attention.decode(h_BC, cache, position_B)
        h_BC += added
