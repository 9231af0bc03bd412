"""A model with muP as one without: the factors of its passes, multiplied into its weights.

Formats of others have weights and no such factors. What follows from a width in training (learning
rates, initial values) is in ``initialization`` and ``tisslm.config.model``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.config.model import TransformerConfig
from tisslm.system.tensor_files import Kind, StreamedArrays, kind_of

__all__ = ["Folded", "folded"]

Array = NDArray[Any]


def folded(
    config: TransformerConfig, arrays: Mapping[str, Array]
) -> tuple[TransformerConfig, Mapping[str, Array]]:
    """Return a shape and weights without factors of muP that give the same logits.

    What has no such factors is returned as it is: at the base width, the weights are exact.

    Parameters
    ----------
    config : TransformerConfig
    arrays : mapping of str to ndarray
        Its weights by our names; read when they are asked for.

    Returns
    -------
    config : TransformerConfig
    arrays : mapping of str to ndarray
    """
    if not config.rescaled:
        return config, arrays
    plain = config.model_copy(update={"mup_base_width": 0, "mup_base_head_dim": 0})
    return plain, Folded(config, arrays)


@final
class Folded(StreamedArrays):
    """Weights with the factors of logits and attention in them.

    The head alone sees what the final norm writes, so the factor of logits is in the weight and the
    bias of that norm, whether or not the head is the embedding. That of attention's scores is in
    what makes queries: the rows of their map, or the weight of their norm, where they have one.

    Parameters
    ----------
    config : TransformerConfig
    arrays : mapping of str to ndarray
    """

    def __init__(self, config: TransformerConfig, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
        self._of_logits = config.width_ratio
        self._of_scores = config.score_factor
        self._queries = config.n_head * config.head_dim
        self._norms = config.qk_norm != "none"

    def _factor(self, name: str) -> tuple[float, slice]:
        """Return what some rows are multiplied by, and these rows."""
        if name.startswith("final_norm."):
            return self._of_logits, slice(None)
        if self._norms:
            normed = name.endswith(".attention.q_norm.weight")
            return (self._of_scores if normed else 1.0), slice(None)
        mapped = name.endswith((".attention.qkv.weight", ".attention.qkv.bias"))
        return (self._of_scores if mapped else 1.0), slice(0, self._queries)

    def kind(self, name: str) -> Kind:
        """Return shape and type of an array without making it."""
        shape, dtype = kind_of(self._arrays, name)
        changes = dtype == np.uint16 and self._factor(name)[0] != 1.0
        return shape, np.dtype(np.float32) if changes else dtype

    def __getitem__(self, name: str) -> Array:
        factor, rows = self._factor(name)
        if factor == 1.0:
            return self._arrays[name]
        found = np.array(ops.widen(self._arrays[name]), dtype=self.kind(name)[1])
        found[rows] *= factor
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)
