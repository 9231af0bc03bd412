"""A linear map with its parameters, y = x w^T + b, and the chunks of rows that sublayers give it.

The activation between two maps is in ``mlp``. The chunks of the loss are those of
``tisslm.contracts.chunk_rows``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from tisslm import ops
from tisslm.memory import Parameter, grads_to_write

__all__ = ["CHUNK", "Linear", "chunks"]

Array = NDArray[Any]

#: Rows of one chunk: enough for the packing of the weights to cost under 3 %, few enough for what
#: one operation leaves to the next (chunk x 4C at most) to stay near the last-level cache. A
#: multiple of 64, so that the sums over rows have the order they have without chunks.
CHUNK = 1024


def chunks(rows: int) -> Iterator[slice]:
    """Yield slices that cut rows into chunks; they depend on the shape alone."""
    for start in range(0, rows, CHUNK):
        yield slice(start, min(start + CHUNK, rows))


class Linear:
    """A linear map of C channels to O outputs, with an optional bias.

    Parameters
    ----------
    weight : Parameter of shape (O, C)
        What forward and decoding read may be stored in two bytes; it is then not trained.
    bias : Parameter of shape (O,), or None
    """

    def __init__(self, weight: Parameter, bias: Parameter | None) -> None:
        self.weight = weight
        self.bias = bias

    def bias_data(self) -> Array | None:
        """Return the values of the bias, or None."""
        return None if self.bias is None else self.bias.data

    def forward(self, x_NC: Array, y_NO: Array) -> None:
        """Write x w^T + b to ``y_NO``."""
        ops.linear_forward(x_NC, self.weight.data, self.bias_data(), y_NO)

    def decode(self, x_BC: Array, y_BO: Array) -> None:
        """Write x w^T + b of a few decoded tokens to ``y_BO``; the weight is read once."""
        ops.linear_decode(x_BC, self.weight.data, self.bias_data(), y_BO)

    def add_forward(self, x_NC: Array, h_NO: Array) -> None:
        """Add x w^T + b to the residual stream."""
        ops.linear_residual_forward(x_NC, self.weight.data, self.bias_data(), h_NO)

    def backward_input(self, dy_NO: Array, dx_NC: Array) -> None:
        """Write dy w to ``dx_NC``."""
        ops.linear_backward_input(dy_NO, self.weight.data, dx_NC)

    def backward_weight(self, dy_NO: Array, x_NC: Array) -> None:
        """Accumulate dy^T x into the weight's gradient and the row sums of dy into the bias's."""
        dw, db, accumulate = grads_to_write(self.weight, self.bias)
        ops.linear_backward_weight(dy_NO, x_NC, dw, db, accumulate)
