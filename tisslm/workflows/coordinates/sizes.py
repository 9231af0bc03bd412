"""How large what the parts of a pass compute is, in the mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Rows
from tisslm.contracts.pass_observer import Direction, PassObserver
from tisslm.models.transformer import Transformer
from tisslm.workflows.coordinates.table import SCORES

__all__ = ["sizes_of"]

Array = NDArray[Any]


def sizes_of(model: Transformer, rows: Rows) -> dict[str, float]:
    """Return the mean absolute value of each place of a forward pass.

    ``embedding`` is the stream that the layers begin with, ``<layer>`` what a layer adds to it,
    ``<layer>.scores`` what the softmax of attention is taken of, for the last token of each row,
    and ``logits`` are those of all tokens.

    Parameters
    ----------
    model : Transformer
    rows : Rows
    """
    sizes = _Sizes(model)
    with model.observed(sizes):
        logits, _ = model.forward(rows.x, start=rows.start)
    return {**sizes.found, "logits": _size(logits)}


def _size(x: Array) -> float:
    return float(np.abs(x).mean(dtype=np.float64))


@final
class _Sizes(PassObserver):
    """Notes sizes while a forward pass is run."""

    def __init__(self, model: Transformer) -> None:
        self._config = model.config
        self._before: Array | None = None
        self.found: dict[str, float] = {}

    def leave(self, place: str, direction: Direction, arrays: Mapping[str, Array]) -> None:
        """Note what a part has added to the stream, and its scores."""
        if direction != "forward" or "stream" not in arrays or "hidden" in arrays:
            return
        stream = arrays["stream"]
        self.found[place] = _size(stream if self._before is None else stream - self._before)
        self._before = stream.copy()
        if "qkv" in arrays and "lse" in arrays:
            self.found[f"{place}{SCORES}"] = _size(self._scores(ops.widen(arrays["qkv"])))

    def _scores(self, qkv_BTE: Array) -> Array:
        config = self._config
        heads, shared, size = config.n_head, config.n_kv_head, config.head_dim
        batch, time, _ = qkv_BTE.shape
        q = qkv_BTE[:, -1, : heads * size].reshape(batch, shared, -1, size)
        k = qkv_BTE[:, :, heads * size : (heads + shared) * size]
        k = k.reshape(batch, time, shared, size)
        scores: Array = np.einsum("bkgd,btkd->bkgt", q, k) * config.attention_scale
        return scores
