"""A linear map with its parameters, y = x w^T + b, and what adapters add to it.

These are in ``lora``, and the activation between two maps is in ``mlp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import PassContext
from tisslm.memory import Parameter, grads_to_write
from tisslm.models.layers.lora import Lora

__all__ = ["Linear"]

Array = NDArray[Any]


class Linear:
    """A linear map of C channels to O outputs, with an optional bias.

    Rows of a pass come with its context and the number of the first of them, by which adapters
    draw their dropout.

    Parameters
    ----------
    weight : Parameter of shape (O, C)
        If it is not trained, it may be stored in two bytes.
    bias : Parameter of shape (O,), or None
    adapters : sequence of Lora
        What is added to the outputs before anything else sees them.
    """

    def __init__(
        self, weight: Parameter, bias: Parameter | None, adapters: Sequence[Lora] = ()
    ) -> None:
        self.weight = weight
        self.bias = bias
        self.adapters = tuple(adapters)

    def bias_data(self) -> Array | None:
        """Return the values of the bias, or None."""
        return None if self.bias is None else self.bias.data

    def forward(
        self, x_NC: Array, y_NO: Array, ctx: PassContext | None = None, first: int = 0
    ) -> None:
        """Write x w^T + b to ``y_NO``."""
        ops.linear_forward(x_NC, self.weight.data, self.bias_data(), y_NO)
        self._adapt(x_NC, y_NO, ctx, first)

    def activation_forward(
        self,
        x_NC: Array,
        y_NO: Array,
        act_NO: Array,
        code: int,
        ctx: PassContext | None = None,
        first: int = 0,
    ) -> None:
        """Write x w^T + b to ``y_NO`` and its activation to ``act_NO``."""
        if self.adapters:  # which the activation must see
            self.forward(x_NC, y_NO, ctx, first)
            ops.activation_forward(y_NO, act_NO, code)
        else:
            ops.linear_activation_forward(
                x_NC, self.weight.data, self.bias_data(), y_NO, act_NO, code
            )

    def decode(self, x_BC: Array, y_BO: Array) -> None:
        """Write x w^T + b of a few decoded tokens to ``y_BO``; the weight is read once."""
        ops.linear_decode(x_BC, self.weight.data, self.bias_data(), y_BO)
        for adapter in self.adapters:
            adapter.decode(x_BC, y_BO)

    def add_forward(
        self, x_NC: Array, h_NO: Array, ctx: PassContext | None = None, first: int = 0
    ) -> None:
        """Add x w^T + b to the residual stream."""
        ops.linear_residual_forward(x_NC, self.weight.data, self.bias_data(), h_NO)
        self._adapt(x_NC, h_NO, ctx, first)

    def _adapt(self, x_NC: Array, y_NO: Array, ctx: PassContext | None, first: int) -> None:
        for adapter in self.adapters:
            adapter.forward(x_NC, y_NO, ctx, first)

    def backward_input(
        self, dy_NO: Array, dx_NC: Array, ctx: PassContext | None = None, first: int = 0
    ) -> None:
        """Write dy w to ``dx_NC``."""
        ops.linear_backward_input(dy_NO, self.weight.data, dx_NC)
        for adapter in self.adapters:
            adapter.backward_input(dy_NO, dx_NC, ctx, first)

    def backward_weight(
        self, dy_NO: Array, x_NC: Array, ctx: PassContext | None = None, first: int = 0
    ) -> None:
        """Accumulate dy^T x into the weight's gradient and the row sums of dy into the bias's.

        For what is frozen there is no product.
        """
        dw, db, accumulate = grads_to_write(self.weight, self.bias)
        if dw is not None or db is not None:
            ops.linear_backward_weight(dy_NO, x_NC, dw, db, accumulate)
        for adapter in self.adapters:
            adapter.backward_weight(dy_NO, x_NC, ctx, first)

    def backward(
        self,
        dy_NO: Array,
        x_NC: Array,
        dx_NC: Array | None,
        ctx: PassContext | None = None,
        first: int = 0,
    ) -> None:
        """Do both, in one loop of all threads where both are products; ``dx_NC`` is no operand.

        Where it is None, only the gradients of weight, bias and adapters are computed.
        """
        if dx_NC is not None and self.weight.trainable and not self.adapters:
            dw, db, accumulate = grads_to_write(self.weight, self.bias)
            dw = cast(Array, dw)  # it is trained
            ops.linear_backward(dy_NO, self.weight.data, x_NC, dx_NC, dw, db, accumulate)
        else:
            self.backward_weight(dy_NO, x_NC, ctx, first)
            if dx_NC is not None:
                self.backward_input(dy_NO, dx_NC, ctx, first)
