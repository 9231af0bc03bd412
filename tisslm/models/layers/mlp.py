"""The MLP sublayer with an activation between its two maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.models.layers.feed_forward import FeedForward

__all__ = ["MLP"]

Array = NDArray[Any]


@final
class MLP(FeedForward):
    """The MLP sublayer: two linear maps, from C to F and back, with an activation between them."""

    def activate(self, normed_NC: Array, pre_NG: Array, act_NF: Array) -> None:
        """Write the pre-activation of some rows, and their activation."""
        weight, bias = self.up.weight.data, self.up.bias_data()
        ops.linear_activation_forward(normed_NC, weight, bias, pre_NG, act_NF, self.activation)

    def pull_activation(
        self, dy_NC: Array, pre_NG: Array, act_NF: Array, scratch: Mapping[str, Array]
    ) -> Array:
        """Write the activation again, and return the gradient by the pre-activation."""
        d_pre: Array = scratch["d_pre"][: len(dy_NC)]
        self.down.backward_input(dy_NC, d_pre)
        ops.activation_backward(pre_NG, d_pre, d_pre, act_NF, self.activation)
        return d_pre
