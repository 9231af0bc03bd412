"""Contrastive: each anchor is to find its positive among the texts of the whole update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import EmbeddingLoss, Figure, Metric, PooledBatch, PooledValue
from tisslm.contracts.options import flag, word
from tisslm.errors import ConfigError
from tisslm.optim.losses._cuts import Cuts, check_texts

__all__ = ["Contrastive"]

Array = NDArray[Any]

#: Where CLIP clips a learned scale: logits grow by no more than 100 times.
_MOST_LOG_SCALE = math.log(100.0)

#: Similarities that are held at a time, 4 MiB in float32.
_TILE = 1 << 20

_WHERE = "loss contrastive"


@final
class Contrastive(EmbeddingLoss):
    """InfoNCE: cross-entropy of each anchor to its positive among the positives of all, in nats.

    With anchors ``a_i``, documents ``d_j`` (the positives of all examples, of which ``d_i`` belongs
    to ``a_i``, then the first hard negatives of all, and so on) and ``z_ij = scale s(a_i, d_j)``,

    ``loss = 1/N sum_i (log sum_j exp(z_ij) - z_ii)``; ``dz_ij = (softmax_j(z_ij) - [j = i]) / N``.

    ``symmetric`` takes the mean of this and of the other direction, from each positive to all
    anchors. Left out of the sum over j is a document that is the same text as the positive
    of ``a_i``, and the positive of another example with the same anchor: neither is a wrong answer.

    The gradient is derived in ``docs/math/contrastive.md``. The N x (K - 1) N similarities never
    exist: some rows are computed at a time, and overwritten by their gradient.

    Parameters
    ----------
    temperature : float or "learned"
        One over the scale. "learned" takes it from the model (``model.logit_scale``), as CLIP
        does: the scale stays in [1, 100], and has no gradient that leads out of these.
    symmetric : bool
    similarity : {"cosine", "dot"}
        A vector shorter than 1e-12 has no direction: its cosines are 0, and so is its gradient.
    dimensions : sequence of int, optional
        Matryoshka: the sum of the losses of the vectors cut to these lengths, ascending, each
        divided by its length, whatever the similarity.
    weights : sequence of float, optional
        What each of them counts; 1 if left out.

    Raises
    ------
    ConfigError
        If an option is out of range.

    References
    ----------
    van den Oord et al., "Representation Learning with Contrastive Predictive Coding", arXiv
    1807.03748. Henderson et al., "Efficient Natural Language Response Suggestion for Smart Reply",
    arXiv 1705.00652. Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", arXiv 2103.00020 (both directions, the learned temperature). Kusupati et al.,
    "Matryoshka Representation Learning", arXiv 2205.13147.
    """

    declares = (
        Metric(
            "contrastive/temperature",
            "learned temperature",
            format="{:.4f}",
            figure=Figure(
                "contrastive-temperature", "Temperature", "What similarities are divided by."
            ),
        ),
    )

    n_texts = range(2, 2**31)

    #: A run refuses updates of one example; ``value`` takes one that has hard negatives.
    needs_others: ClassVar[bool] = True

    #: Sets of options that the checks build it with.
    test_options: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {},
        {"temperature": "learned", "symmetric": True},
        {"temperature": 0.5, "similarity": "dot"},
        {"temperature": "learned", "dimensions": [2, 4], "weights": [0.5, 1.0]},
    )

    def __init__(
        self,
        *,
        temperature: float | str = 0.05,
        symmetric: bool = False,
        similarity: str = "cosine",
        dimensions: list[int] | None = None,
        weights: list[float] | None = None,
    ) -> None:
        self.learns_scale = temperature == "learned"
        self._scale = 0.0 if self.learns_scale else 1.0 / _positive(temperature)
        self.symmetric = flag(f"{_WHERE}: symmetric", symmetric)
        self.similarity = word(f"{_WHERE}: similarity", similarity, ("cosine", "dot"))
        self._cuts = Cuts(_WHERE, dimensions, weights)
        self.least_size = self._cuts.longest
        self._learned: float | None = None

    def value(self, pooled: PooledBatch, *, gradient: bool = True) -> PooledValue:
        """Compute the mean loss over the anchors and, if asked for, the gradients.

        Raises
        ------
        ShapeError
            If the arrays do not fit each other.
        ConfigError
            If there is one pair alone, if the model has no scale to be learned, or if its vectors
            are shorter than ``dimensions`` ask for.
        """
        check_texts(_WHERE, pooled, self.n_texts)
        n_texts, n, _ = pooled.embeddings_KNE.shape
        if n == 1 and n_texts == 2:
            raise ConfigError(
                f"{_WHERE}: expected at least two examples in an update, or hard negatives, got "
                "one pair, which is compared with nothing; raise training.batch_size"
            )
        scale, low, high = self._scale_of(pooled)
        ids_KN = pooled.text_ids_KN
        share = 0.5 / n if self.symmetric else 1.0 / n

        def at(x_KND: Array, d_KND: Array | None) -> tuple[float, float]:
            documents_MD = x_KND[1:].reshape(-1, x_KND.shape[-1])
            d_documents_MD = None if d_KND is None else d_KND[1:].reshape(documents_MD.shape)
            d_anchors_ND = None if d_KND is None else d_KND[0]
            found = _find(
                x_KND[0], documents_MD, ids_KN[0], ids_KN[1:].reshape(-1), scale, share,
                d_anchors_ND, d_documents_MD, fresh=True,
            )  # fmt: skip
            if not self.symmetric:
                return found
            d_positives_ND = None if d_KND is None else d_KND[1]
            back = _find(
                x_KND[1], x_KND[0], ids_KN[1], ids_KN[0], scale, share,
                d_positives_ND, d_anchors_ND, fresh=False,
            )  # fmt: skip
            return found[0] + back[0], found[1] + back[1]

        unit = self.similarity == "cosine"
        value = self._cuts.value(pooled, at, unit=unit, gradient=gradient)
        slope = min(max(value.d_log_scale, low), high) if self.learns_scale else 0.0
        return PooledValue(value.loss, value.d_embeddings_KNE, slope)

    def metrics(self) -> dict[str, float]:
        """Return the temperature, if it is learned."""
        return {} if self._learned is None else {"contrastive/temperature": self._learned}

    def _scale_of(self, pooled: PooledBatch) -> tuple[float, float, float]:
        """Return the scale, and the bounds of its logarithm's gradient."""
        if not self.learns_scale:
            return self._scale, 0.0, 0.0
        if pooled.log_scale is None:
            raise ConfigError(
                f'{_WHERE}: temperature = "learned": expected a model that learns a scale, got '
                "one without; set model.logit_scale = 20, where it begins"
            )
        log_scale = min(max(pooled.log_scale, 0.0), _MOST_LOG_SCALE)
        least = 0.0 if pooled.log_scale >= _MOST_LOG_SCALE else -math.inf  # a step up is refused
        most = 0.0 if pooled.log_scale <= 0.0 else math.inf
        self._learned = math.exp(-log_scale)
        return math.exp(log_scale), least, most


def _find(
    queries_NE: Array,
    documents_ME: Array,
    query_ids_N: Array,
    document_ids_M: Array,
    scale: float,
    share: float,
    d_queries_NE: Array | None,
    d_documents_ME: Array | None,
    *,
    fresh: bool,
) -> tuple[float, float]:
    """Compute ``share`` times the sum of losses, and its gradient by the scale's logarithm.

    Gradients are overwritten if they are ``fresh``, and added to otherwise.
    """
    n, dtype = len(queries_NE), queries_NE.dtype
    rows = min(n, max(1, _TILE // len(documents_ME)))
    kept_RM = np.empty((rows, len(documents_ME)), dtype)
    total, d_log_scale = 0.0, 0.0
    for start in range(0, n, rows):
        tile = np.arange(start, min(start + rows, n), dtype=np.int32)
        scaled_RE = queries_NE[tile] * dtype.type(scale)
        z_RM = kept_RM[: len(tile)]
        ops.linear_forward(scaled_RE, documents_ME, None, z_RM)
        z_RM[_right(tile, query_ids_N, document_ids_M)] = -np.inf
        top_R, sum_R = np.empty(len(tile), dtype), np.empty(len(tile), dtype)
        ops.exp_sum(z_RM, top_R, sum_R)
        own_R = z_RM[np.arange(len(tile)), tile].astype(np.float64)
        total += float((np.log(sum_R.astype(np.float64)) + (top_R - own_R)).sum())
        if d_queries_NE is None or d_documents_ME is None:
            continue
        share_R = np.full(len(tile), share, dtype)
        ops.softmax_gradient(z_RM, top_R, sum_R, tile, share_R, share_R)
        d_scaled_RE = np.empty_like(scaled_RE)
        ops.linear_backward_input(z_RM, documents_ME, d_scaled_RE)
        accumulate = start > 0 or not fresh
        ops.linear_backward_weight(z_RM, scaled_RE, d_documents_ME, None, accumulate)
        # sum_j dz_ij z_ij is the product of row i and its gradient, so z need not be kept.
        d_log_scale += float(np.einsum("re,re->", scaled_RE, d_scaled_RE, dtype=np.float64))
        d_scaled_RE *= dtype.type(scale)
        if not fresh:
            d_scaled_RE += d_queries_NE[tile]
        d_queries_NE[tile] = d_scaled_RE
    return share * total, d_log_scale


def _right(tile: Array, query_ids_N: Array, document_ids_M: Array) -> Array:
    """Return which documents are right for the queries of a tile, beside their own."""
    right_RM = document_ids_M[None] == document_ids_M[tile, None]
    right_RM[:, : len(query_ids_N)] |= query_ids_N[None] == query_ids_N[tile, None]
    right_RM[np.arange(len(tile)), tile] = False
    found: Array = right_RM
    return found


def _positive(temperature: object) -> float:
    if isinstance(temperature, int | float) and not isinstance(temperature, bool):
        given = float(temperature)
        if 1e-6 <= given < math.inf:
            return given
    raise ConfigError(
        f'{_WHERE}: temperature: expected a finite number >= 1e-06, or "learned", '
        f"got {temperature!r:.200}"
    )
