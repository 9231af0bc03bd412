"""The MLP sublayer with a gate: h += dropout(down(f(gate(norm(h))) * up(norm(h))))."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Buffer
from tisslm.models.layers.feed_forward import FeedForward
from tisslm.models.layers.linear import CHUNK

__all__ = ["GatedMLP"]

Array = NDArray[Any]


@final
class GatedMLP(FeedForward):
    """The MLP sublayer with a gate, whose map and that upwards are one product.

    The rows of ``up`` are those of the gate and then those of the map upwards; so are the columns
    of the pre-activation.

    References
    ----------
    Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202.
    """

    def plan(self, shape: tuple[int, int]) -> dict[str, Buffer]:
        """Return the buffers, with one for the gradient by the activation, half as wide."""
        part, hidden = min(shape[0] * shape[1], CHUNK), self.down.weight.shape[1]
        d_act = Buffer((part, hidden), self.precision.stored, "scratch")
        return {**super().plan(shape), "d_act": d_act}

    def activate(self, normed_NC: Array, pre_NG: Array, act_NF: Array) -> None:
        """Write both products of some rows, and that of gate and map."""
        self.up.forward(normed_NC, pre_NG)
        ops.gated_forward(pre_NG, act_NF, self.activation)

    def pull_activation(
        self, dy_NC: Array, pre_NG: Array, act_NF: Array, scratch: Mapping[str, Array]
    ) -> Array:
        """Write the activation again, and return the gradient by both products."""
        n = len(dy_NC)
        d_act, d_pre = scratch["d_act"][:n], scratch["d_pre"][:n]
        self.down.backward_input(dy_NC, d_act)
        ops.gated_backward(pre_NG, d_act, d_pre, act_NF, self.activation)
        return d_pre
