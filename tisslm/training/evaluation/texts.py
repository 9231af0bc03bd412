"""Evaluation of an encoder: how well the vectors of held-out texts find what belongs to them.

What is measured of arrays is in ``tisslm.tracking.embedding_measures``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import (
    Communicator,
    Dataset,
    EmbeddingLoss,
    Encoder,
    PooledBatch,
    TextBatch,
)
from tisslm.contracts.rows import check_rows
from tisslm.errors import DataError
from tisslm.tracking.embedding_measures import (
    pair_similarity,
    pearson,
    retrieval,
    spearman,
    triplet_accuracy,
)

__all__ = ["TextEvaluation", "evaluate_texts"]

Array = NDArray[Any]


@dataclass(frozen=True)
class TextEvaluation:
    """What an evaluation of vectors found.

    Attributes
    ----------
    loss : float or None
        The loss of training over batches of examples, a mean over the examples; None where no batch
        can be made, or there is no loss.
    examples : int
    seconds : float
    measures : mapping of str to float
        ``recall_at_1`` and the others of ``retrieval``, and ``triplet_accuracy`` where there are
        hard negatives; of pairs with scores, ``spearman`` and ``pearson``.
    """

    loss: float | None
    examples: int
    seconds: float
    measures: dict[str, float] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Return what is known, by the names that sinks get."""
        speed = self.examples / self.seconds if self.seconds else math.inf
        found: dict[str, float | None] = {"loss": self.loss, **self.measures}
        found |= {"runtime": self.seconds, "samples_per_second": speed}
        return {f"eval/{name}": value for name, value in found.items() if value is not None}


def evaluate_texts(
    model: Encoder,
    dataset: Dataset,
    loss: EmbeddingLoss | None = None,
    *,
    batch_size: int = 32,
    loss_batch: int = 256,
    max_batches: int = 0,
    check: Callable[[], None] | None = None,
    communicator: Communicator | None = None,
) -> TextEvaluation:
    """Embed the texts of a dataset, each once, and measure how they find each other.

    Anchors are queries; what is searched are all positives and hard negatives, each text once. The
    positives of equal anchors are all of them right.

    Parameters
    ----------
    model : Encoder
    dataset : Dataset
        Of windows with ``lengths`` and perhaps ``score``.
    loss : EmbeddingLoss, optional
        Computed over batches of examples, in order.
    batch_size : int
        Examples of a pass; the result does not depend on it beyond rounding.
    loss_batch : int
        Examples of a batch of the loss: the others of a batch are an anchor's negatives, so the
        loss depends on it.
    max_batches : int
        At most so many times ``batch_size`` examples, spread evenly; 0 takes every one.
    check : callable, optional
        Called before each pass; what it raises ends the evaluation.
    communicator : Communicator, optional
        Its ranks, all of which call this, share out the passes; the result is the same.

    Raises
    ------
    DataError
        If windows have no texts.
    """
    start = time.perf_counter()
    seen = _distinct(dataset, max_batches * batch_size)
    passes = list(_passes(seen.lengths, batch_size * seen.n_texts, batch_size * dataset.seq_len))
    vectors_UE = _embed(model, seen, passes, check, communicator)
    return TextEvaluation(
        _loss(loss, seen, vectors_UE, loss_batch, model),
        len(seen.place_NK),
        time.perf_counter() - start,
        _measures(
            seen, vectors_UE, "dot" if loss is not None and loss.similarity == "dot" else "cosine"
        ),
    )


# --------------------------------------------------------------------------- texts, each once


@dataclass(frozen=True)
class _Distinct:
    """The distinct texts of some examples: U of them, and which each example has."""

    texts: list[Array]
    place_NK: Array  # noqa: N815
    score_N: Array | None  # noqa: N815

    @property
    def n_texts(self) -> int:
        return int(self.place_NK.shape[1])

    @property
    def lengths(self) -> Array:
        return np.array([len(text) for text in self.texts])


def _distinct(dataset: Dataset, most: int) -> _Distinct:
    """Return the texts of a dataset, of at most so many examples if ``most`` is not 0."""
    whole = len(dataset)
    wanted = min(whole, most) if most else whole
    found: dict[bytes, int] = {}
    places: list[list[int]] = []
    scores: list[float] = []
    for number in range(wanted):
        window = check_rows(dataset.window(number * whole // wanted), "dataset.window")
        if "lengths" not in window.others:
            raise DataError(
                "evaluation: expected windows with the lengths of their texts, got some without; "
                'give an encoder a dataset such as data.name = "examples"'
            )
        ends = np.cumsum(window.others["lengths"])
        texts = np.split(window.x[: ends[-1]], ends[:-1])
        places.append([found.setdefault(text.tobytes(), len(found)) for text in texts])
        if "score" in window.others:
            scores.append(float(window.others["score"]))
    kept = [np.frombuffer(text, np.int32) for text in found]
    return _Distinct(kept, np.array(places), np.array(scores) if scores else None)


def _passes(lengths: Array, most_texts: int, most_tokens: int) -> Iterator[Array]:
    """Yield the numbers of the texts of each pass: the short ones first, as many as fit."""
    order = np.argsort(lengths, kind="stable")
    first, tokens = 0, 0
    for place, length in enumerate(lengths[order].tolist()):
        if place > first and (place - first == most_texts or tokens + length > most_tokens):
            yield order[first:place]
            first, tokens = place, 0
        tokens += length
    yield order[first:]


def _embed(
    model: Encoder,
    seen: _Distinct,
    passes: Sequence[Array],
    check: Callable[[], None] | None,
    communicator: Communicator | None,
) -> Array:
    """Return the vectors of the distinct texts; of several ranks, each makes some passes."""
    rank, size = (0, 1) if communicator is None else (communicator.rank, communicator.size)
    own: list[Array] = []
    for numbers in passes[rank::size]:
        if check is not None:
            check()
        if communicator is not None:
            communicator.beat("an evaluation")
        texts = [seen.texts[number] for number in numbers]
        own.append(model.embed(TextBatch.pack(texts, model.seq_len))[0])
    vectors_UE = np.empty((len(seen.texts), model.embedding_size), model.parameters.dtype)
    flat = np.concatenate([np.empty(0, vectors_UE.dtype), *(part.ravel() for part in own)])
    found = [flat.tobytes()] if communicator is None else communicator.all_gather(flat.tobytes())
    for of_rank, data in enumerate(found):
        numbers = np.concatenate([np.empty(0, np.int64), *passes[of_rank::size]])
        vectors_UE[numbers] = np.frombuffer(data, vectors_UE.dtype).reshape(len(numbers), -1)
    return vectors_UE


# --------------------------------------------------------------------------- what they come to


def _loss(
    loss: EmbeddingLoss | None, seen: _Distinct, vectors_UE: Array, batch: int, model: Encoder
) -> float | None:
    """Return the mean loss over the examples, in batches; None if there is none."""
    if loss is None or seen.n_texts not in loss.n_texts:
        return None
    if loss.needs_score and seen.score_N is None:
        return None
    scale = model.logit_scale
    total, count = 0.0, 0
    for first in range(0, len(seen.place_NK), batch):
        place_KN = seen.place_NK[first : first + batch].T
        n_examples = place_KN.shape[1]
        if n_examples == 1 and loss.needs_others:
            continue
        pooled = PooledBatch(
            vectors_UE[place_KN],
            np.ascontiguousarray(place_KN, dtype=np.int64),
            None if seen.score_N is None else seen.score_N[first : first + batch],
            None if scale is None else float(scale.data[0]),
        )
        total += loss.value(pooled, gradient=False).loss * n_examples
        count += n_examples
    return total / count if count else None


def _measures(
    seen: _Distinct, vectors_UE: Array, similarity: Literal["cosine", "dot"]
) -> dict[str, float]:
    """Return what the vectors measure, by name."""
    place_KN = seen.place_NK.T
    if seen.score_N is not None:
        if len(seen.score_N) < 2:
            return {}
        near_N = pair_similarity(vectors_UE[place_KN[0]], vectors_UE[place_KN[1]])
        return {
            "spearman": spearman(near_N, seen.score_N),
            "pearson": pearson(near_N, seen.score_N),
        }
    anchors, query_N = np.unique(place_KN[0], return_inverse=True)
    searched, document_N = np.unique(place_KN[1:], return_inverse=True)
    right_N = document_N.reshape(place_KN[1:].shape)[0]
    order = np.argsort(query_N, kind="stable")
    borders = np.cumsum(np.bincount(query_N))[:-1]
    found = retrieval(
        vectors_UE[anchors],
        vectors_UE[searched],
        np.split(right_N[order], borders),
        similarity=similarity,
    )
    measures = dict(found)
    if seen.n_texts > 2:
        n_negatives = seen.n_texts - 2
        anchors_N, positives_N = (np.tile(place, n_negatives) for place in place_KN[:2])
        measures["triplet_accuracy"] = triplet_accuracy(
            vectors_UE[anchors_N], vectors_UE[positives_N], vectors_UE[place_KN[2:].ravel()]
        )
    return measures
