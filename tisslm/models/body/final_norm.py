"""The final norm: from the residual stream to what a head, or a pooling, is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Buffer, Norm
from tisslm.contracts.pass_observer import PassObserver, enter, leave
from tisslm.models.layers.precision import Precision

__all__ = ["FinalNorm"]

Array = NDArray[Any]
Observers = tuple[PassObserver, ...]


class FinalNorm:
    """The norm of the stream after the last layer.

    Parameters
    ----------
    norm : Norm
    channels : int
        C.
    precision : Precision
    """

    def __init__(self, norm: Norm, channels: int, precision: Precision) -> None:
        self.norm = norm
        self.channels = channels
        self.precision = precision

    def plan(self, rows: int) -> dict[str, Buffer]:
        """Return the buffers: statistics, and the normalized stream."""
        hidden = Buffer((rows, self.channels), self.precision.stored, "saved")
        return {**self.norm.plan(rows, self.precision.stream), "hidden": hidden}

    def forward(self, h_NC: Array, own: Mapping[str, Array], observers: Observers = ()) -> None:
        """Write the normalized stream to ``own["hidden"]``."""
        enter(observers, "final_norm", "forward")
        rows = slice(len(h_NC))
        self.norm.forward(h_NC, None, own["hidden"][rows], own, rows)
        kept = {**self.norm.statistics(own), "hidden": own["hidden"]}
        leave(observers, "final_norm", "forward", kept, stream=h_NC)

    def apply(self, h_BC: Array) -> Array:
        """Return a few decoded tokens' rows of the normalized stream, in a new array."""
        hidden_BC = np.empty_like(h_BC)
        self.norm.apply(h_BC, hidden_BC)
        return hidden_BC

    def backward(
        self, h_NC: Array, dh_NC: Array, own: Mapping[str, Array], observers: Observers = ()
    ) -> None:
        """Turn the gradient by the normalized stream into that by the stream, in place."""
        enter(observers, "final_norm", "backward")
        self.norm.backward(dh_NC, h_NC, None, dh_NC, own, own, slice(len(h_NC)))
        leave(observers, "final_norm", "backward", {}, d_stream=dh_NC)
