"""The head of a language model: output projection, factor, soft cap and loss, chunk by chunk.

The logits of the whole batch are never stored in training: each chunk of rows is projected,
turned into its gradient by the loss, and multiplied back before the next one. With a soft cap, its
slope is kept beside the chunk, for the loss overwrites the logits from which it follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Buffer, Loss, chunk_rows
from tisslm.contracts.pass_observer import PassObserver, enter, leave
from tisslm.models.layers.chunks import chunks, rows_at_once
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.precision import Precision

__all__ = ["Head"]

#: Chunks that many threads take at once, at most: there is room for so many logits.
AT_MOST = 4

#: Rows that are worth reading the output matrix for, and moving it to words of bfloat16.
LEAST = 256

Array = NDArray[Any]
Observers = tuple[PassObserver, ...]


class Head:
    """The output projection of a model, from the normalized stream to logits.

    Parameters
    ----------
    project : Linear
        The map from C to V; with tied embeddings its weight is the token embedding.
    precision : Precision
    cap : float
        Logits z become ``cap tanh(z / cap)``; 0 leaves them as they are.
    below : bool
        Whether anything is trained below; if not, backward ends at the matrix.
    factor : float
        What logits are multiplied by before the cap; 1 but for muP.

    References
    ----------
    Yang et al., "Tensor Programs V", arXiv 2203.03466 (the factor).
    Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", arXiv 2408.00118.
    """

    def __init__(
        self,
        project: Linear,
        precision: Precision,
        cap: float = 0.0,
        *,
        below: bool = True,
        factor: float = 1.0,
    ) -> None:
        self.project = project
        self.precision = precision
        self.cap = cap
        self.below = below
        self.factor = factor
        self.vocab = project.weight.shape[0]
        self.chunk = chunk_rows(self.vocab)  # of rows whose losses are added up
        self._least = max(1, LEAST // self.chunk)

    def _at_once(self) -> int:
        """Return the rows that are projected at once: some chunks."""
        least, most = self.chunk * self._least, AT_MOST // self._least
        return rows_at_once(least, self.precision.stream, most)

    def plan(self, rows: int) -> dict[str, Buffer]:
        """Return the buffers: targets and what they count, logits and slopes of some chunks."""
        stream, stored = self.precision.stream, self.precision.stored
        part = min(rows, self._at_once())
        plan = {
            "targets": Buffer((rows,), "int32", "saved"),
            "weights": Buffer((rows,), stream, "saved"),
            "logits": Buffer((part, self.vocab), stream, "scratch"),
            "row_losses": Buffer((part,), "float64", "scratch"),
        }
        if self.precision.mixed:
            plan["d_logits"] = Buffer((part, self.vocab), stored, "scratch")
        if self.cap:
            plan["slope"] = Buffer((part, self.vocab), stream, "scratch")
        return plan

    def _project(self, hidden: Array, logits: Array, slope: Array | None = None) -> None:
        """Write the logits of some rows, and the slope of the cap where there is one."""
        self.project.forward(hidden, logits)
        self._multiply(logits)
        if self.cap:
            ops.soft_cap_forward(logits, slope, self.cap)

    def _multiply(self, x_NV: Array) -> None:
        """Multiply logits, or the gradient by them, by the factor, in place."""
        if self.factor != 1.0:
            ops.scale(x_NV.reshape(-1), self.factor)

    def _slope(self, rows: int, own: Mapping[str, Array]) -> Array | None:
        """Return the buffer of the slope for some rows; None without a cap."""
        return own["slope"][:rows] if self.cap else None

    def logits(self, own: Mapping[str, Array], out_NV: Array, observers: Observers = ()) -> None:
        """Write all logits to ``out_NV``."""
        for rows in chunks(len(out_NV), self._at_once()):
            enter(observers, "head", "forward")
            self._project(own["hidden"][rows], out_NV[rows])
            leave(observers, "head", "forward", {"hidden": own["hidden"][rows]})

    def logits_of(self, hidden_NC: Array) -> Array:
        """Return the logits of a few rows of the normalized stream, in a new array."""
        out = np.empty((len(hidden_NC), self.vocab), dtype=hidden_NC.dtype)
        self.project.decode(hidden_NC, out)
        self._multiply(out)
        if self.cap:
            ops.soft_cap_forward(out, None, self.cap)
        return out

    def loss(
        self,
        loss: Loss,
        targets_N: Array,
        weights_N: Array,
        own: Mapping[str, Array],
        dh_NC: Array | None,
        observers: Observers = (),
    ) -> float:
        """Return the sum of the rows' losses; with ``dh_NC``, also compute the gradients.

        ``dh_NC`` receives the gradient by the normalized stream, not yet by the stream itself.
        """
        total = 0.0
        for rows in chunks(len(targets_N), len(own["logits"])):
            hidden = own["hidden"][rows]
            logits = own["logits"][: len(hidden)]
            slope = None if dh_NC is None else self._slope(len(hidden), own)
            enter(observers, "head", "forward")
            self._project(hidden, logits, slope)
            losses_N = loss.tile(
                logits, targets_N[rows], weights_N[rows], gradient=dh_NC is not None
            )
            wide_N = own["row_losses"][: len(hidden)]
            wide_N[...] = losses_N  # the bits of np.sum(losses_N, dtype=float64), without its copy
            for part in chunks(len(wide_N), self.chunk):  # in the order of ``Loss.forward``
                total += float(np.sum(wide_N[part]))
            leave(observers, "head", "forward", {"hidden": hidden})
            if dh_NC is not None:
                self._chunk_backward(logits, slope, rows, own, dh_NC, observers)
        return total

    def backward_logits(
        self,
        d_logits_NV: Array,
        own: Mapping[str, Array],
        dh_NC: Array,
        observers: Observers = (),
    ) -> None:
        """Turn the gradient by the logits into that by the normalized stream.

        It belongs to the caller and is only read; a cap and a factor change a copy. The slope of a
        cap is nowhere: logits are projected again for it.
        """
        for rows in chunks(len(d_logits_NV), len(own["logits"])):
            part = d_logits_NV[rows]
            slope = self._slope(len(part), own)
            if slope is not None:
                hidden, logits = own["hidden"][rows], own["logits"][: len(part)]
                enter(observers, "head", "recompute")
                self._project(hidden, logits, slope)
                leave(observers, "head", "recompute", {"hidden": hidden})
            if slope is not None or self.factor != 1.0:
                logits = own["logits"][: len(part)]
                np.copyto(logits, part)
                part = logits
            self._chunk_backward(part, slope, rows, own, dh_NC, observers)

    def _chunk_backward(
        self,
        d_logits_NV: Array,
        slope_NV: Array | None,
        rows: slice,
        own: Mapping[str, Array],
        dh_NC: Array,
        observers: Observers,
    ) -> None:
        """Compute the backward of some rows, whose gradient slope and factor change."""
        enter(observers, "head", "backward")
        if slope_NV is not None:
            ops.soft_cap_backward(d_logits_NV, slope_NV)
        self._multiply(d_logits_NV)
        d_logits_NV = self._as_stored(d_logits_NV, own)
        d_hidden = dh_NC[rows] if self.below else None
        self.project.backward(d_logits_NV, own["hidden"][rows], d_hidden)
        shown = {} if d_hidden is None else {"d_hidden": d_hidden}
        leave(observers, "head", "backward", shown)

    def _as_stored(self, d_logits_NV: Array, own: Mapping[str, Array]) -> Array:
        """Return the gradient in the type of matrix products."""
        if not self.precision.mixed:
            return d_logits_NV
        rounded = own["d_logits"][: len(d_logits_NV)]
        ops.narrow(d_logits_NV, rounded)
        return rounded
