"""What lies between the two maps of an MLP: a function of each number, or a gate and a function.

Each takes the map upwards with it, since the function may be a part of that product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import PassContext
from tisslm.models.layers.linear import Linear

__all__ = ["Activation", "Gated", "Pointwise"]

Array = NDArray[Any]


class Activation(ABC):
    """A map of the pre-activation, whose rows have G columns, to rows of F.

    Parameters
    ----------
    code : int
        One of ``ops.ACTIVATIONS``.
    """

    def __init__(self, code: int) -> None:
        self.code = code

    @abstractmethod
    def forward(
        self,
        up: Linear,
        normed_NC: Array,
        pre_NG: Array,
        act_NF: Array,
        ctx: PassContext,
        first: int,
    ) -> None:
        """Write the map upwards of some rows, the first of which has a number, and more of it."""

    @abstractmethod
    def apply(self, pre_NG: Array, act_NF: Array) -> None:
        """Write the activation of a pre-activation."""

    @abstractmethod
    def backward(
        self,
        down: Linear,
        dy_NC: Array,
        pre_NG: Array,
        act_NF: Array,
        scratch: Mapping[str, Array],
        ctx: PassContext,
        first: int,
    ) -> Array:
        """Write the activation again, and return the gradient by the pre-activation."""

    def shown(self, pre_NG: Array) -> dict[str, Array]:
        """Return what observers see of the pre-activation, by name."""
        return {"pre": pre_NG}


@final
class Pointwise(Activation):
    """A function of each number: F = G."""

    def forward(
        self,
        up: Linear,
        normed_NC: Array,
        pre_NG: Array,
        act_NF: Array,
        ctx: PassContext,
        first: int,
    ) -> None:
        """Write both in one pass over the product, where it has no adapters."""
        up.activation_forward(normed_NC, pre_NG, act_NF, self.code, ctx, first)

    def apply(self, pre_NG: Array, act_NF: Array) -> None:
        """Apply the function to each number."""
        ops.activation_forward(pre_NG, act_NF, self.code)

    def backward(
        self,
        down: Linear,
        dy_NC: Array,
        pre_NG: Array,
        act_NF: Array,
        scratch: Mapping[str, Array],
        ctx: PassContext,
        first: int,
    ) -> Array:
        """Multiply by the slopes in place."""
        d_pre: Array = scratch["d_pre"][: len(dy_NC)]
        down.backward_input(dy_NC, d_pre, ctx, first)
        ops.activation_backward(pre_NG, d_pre, d_pre, act_NF, self.code)
        return d_pre


@final
class Gated(Activation):
    """A gate: the function of the first half of the columns, times the second half. G = 2F.

    References
    ----------
    Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202.
    """

    def forward(
        self,
        up: Linear,
        normed_NC: Array,
        pre_NG: Array,
        act_NF: Array,
        ctx: PassContext,
        first: int,
    ) -> None:
        """Write both halves in one product, and then what comes through the gate."""
        up.forward(normed_NC, pre_NG, ctx, first)
        self.apply(pre_NG, act_NF)

    def apply(self, pre_NG: Array, act_NF: Array) -> None:
        """Write what comes through the gate."""
        ops.gated_forward(pre_NG, act_NF, self.code)

    def backward(
        self,
        down: Linear,
        dy_NC: Array,
        pre_NG: Array,
        act_NF: Array,
        scratch: Mapping[str, Array],
        ctx: PassContext,
        first: int,
    ) -> Array:
        """Write the gradients by both halves; that by the activation gives way to it."""
        d_pre: Array = scratch["d_pre"][: len(dy_NC)]
        down.backward_input(dy_NC, act_NF, ctx, first)
        ops.gated_backward(pre_NG, act_NF, d_pre, act_NF, self.code)
        return d_pre

    def shown(self, pre_NG: Array) -> dict[str, Array]:
        """Return both halves: the gate is the pre-activation, whose columns are the units."""
        hidden = pre_NG.shape[1] // 2
        return {"pre": pre_NG[:, :hidden], "up": pre_NG[:, hidden:]}
