"""Dropout at one site of the model; its mask is drawn from a key again in backward, not stored.

Dropout of attention probabilities takes its key from here; the attention kernel applies it to its
tiles.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import PassContext

__all__ = ["Dropout"]

Array = NDArray[Any]


class Dropout:
    """Dropout: set each element to zero with probability p, and scale the others by 1 / (1 - p).

    Parameters
    ----------
    p : float
    site : int
        The number of the site, unique in the model; part of the key of every draw.

    References
    ----------
    Srivastava et al., "Dropout", JMLR 2014.
    """

    def __init__(self, p: float, site: int) -> None:
        self.p = p
        self.site = site

    def key(self, ctx: PassContext) -> tuple[float, int, int, int, int]:
        """Return (p, seed, update, site, first row), with p = 0 outside training."""
        return (self.p if ctx.train else 0.0, ctx.seed, ctx.update, self.site, ctx.first_row)

    def active(self, ctx: PassContext) -> bool:
        """Return True if this pass drops anything here."""
        return ctx.train and self.p > 0.0

    def in_place(self, x_NC: Array, ctx: PassContext) -> None:
        """Apply the mask to an activation or a gradient: the map is its own backward."""
        if self.active(ctx):
            ops.dropout_forward(x_NC, x_NC, ctx.time, *self.key(ctx))

    def add(self, h_NC: Array, y_NC: Array, ctx: PassContext) -> None:
        """Add the dropped-out ``y_NC`` to the residual stream."""
        ops.residual_forward(h_NC, y_NC, ctx.time, *self.key(ctx))

    def backward(self, dh_NC: Array, dy_NC: Array, ctx: PassContext) -> None:
        """Write the gradient by y, rounded to the type of ``dy_NC``."""
        ops.dropout_backward(dh_NC, dy_NC, ctx.time, *self.key(ctx))
