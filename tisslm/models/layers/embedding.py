"""The embedding of tokens and positions, with dropout on the sum.

The output projection is in ``head``, even if it shares the token matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Buffer, PassContext
from tisslm.errors import DataError
from tisslm.memory import Parameter, grads_to_write
from tisslm.models.layers.dropout import Dropout

__all__ = ["Embedding"]

Array = NDArray[Any]


class Embedding:
    """Start of the residual stream: h[b, t] = token[x[b, t]] + position[t - start[b, t]].

    Positions count from the beginning of a token's document; start is 0 where a row is one
    document.

    Parameters
    ----------
    token : Parameter of shape (V, C)
    position : Parameter of shape (seq_len, C), or None
    dropout : Dropout
    """

    def __init__(self, token: Parameter, position: Parameter | None, dropout: Dropout) -> None:
        self.token = token
        self.position = position
        self.dropout = dropout

    def plan(self, shape: tuple[int, int]) -> dict[str, Buffer]:
        """Return the scratch buffers of the counting sort."""
        batch, time = shape
        keys = max(self.token.shape[0], time)
        return {
            "place_order": Buffer((batch * time,), "int32", "scratch"),
            "first_place": Buffer((keys + 1,), "int32", "scratch"),
        }

    def forward(self, tokens_BT: Array, h_NC: Array, ctx: PassContext) -> None:
        """Write the embeddings to ``h_NC``; an id outside the vocabulary raises DataError."""
        position = None if self.position is None else self.position.data
        try:
            ops.embedding_forward(tokens_BT, self.token.data, position, h_NC, ctx.start_BT)
        except DataError:
            raise self._bad_id(tokens_BT) from None
        self.dropout.in_place(h_NC, ctx)

    def embed_one(self, ids_B: Array, position_B: Array) -> Array:
        """Return the embedding of one token per sequence, each at its own position, (B, C)."""
        h_BC = ops.widen(self.token.data[ids_B])
        if self.position is not None:
            h_BC += self.position.data[position_B]
        return h_BC

    @property
    def trainable(self) -> bool:
        """Whether a table is trained."""
        return self.token.trainable or (self.position is not None and self.position.trainable)

    def _bad_id(self, tokens_BT: Array) -> DataError:
        """Return the error that names the first id outside the vocabulary."""
        vocab = self.token.shape[0]
        row, time = np.argwhere((tokens_BT < 0) | (tokens_BT >= vocab))[0]
        return DataError(
            f"token ids: expected ids from 0 to {vocab - 1}, got {tokens_BT[row, time]} at row "
            f"{row}, position {time}. Use the tokenizer that the model was made for"
        )

    def backward(
        self, tokens_BT: Array, dh_NC: Array, scratch: Mapping[str, Array], ctx: PassContext
    ) -> None:
        """Accumulate the gradients of both tables; ``dh_NC`` is used up."""
        self.dropout.in_place(dh_NC, ctx)
        dtoken, _, add_token = grads_to_write(self.token, None)
        dposition, add_position = None, False
        if self.position is not None:
            dposition, _, add_position = grads_to_write(self.position, None)
        ops.embedding_backward(
            tokens_BT,
            dh_NC,
            dtoken,
            dposition,
            scratch["place_order"],
            scratch["first_place"],
            add_token,
            add_position,
            ctx.start_BT,
        )
