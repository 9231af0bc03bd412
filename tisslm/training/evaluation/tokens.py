"""Evaluation of a language model: loss and accuracy on held-out windows.

Who is told of them in a run is in ``in_run``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import (
    IGNORE_INDEX,
    Communicator,
    Dataset,
    Loss,
    Model,
    Rows,
    Tokenizer,
    target_weights,
)
from tisslm.contracts.model import language_model
from tisslm.errors import DataError
from tisslm.training.ranks.agreement import rows_of_ranks

__all__ = [
    "Evaluation",
    "evaluate",
    "spread_batches",
]

Array = NDArray[Any]
BEST = 5  # top-5 accuracy


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes
    ----------
    loss : float
        Mean over the targets, in nats.
    targets : int
        Number of targets.
    seconds : float
    windows : int
        Number of windows.
    correct, among_five : int or None
        Targets that were the most probable token, and among the five most probable; None where
        the loss did not see logits.
    nbytes : int or None
        Bytes of UTF-8 that the targets stand for; None where no tokenizer tells.
    """

    loss: float
    targets: int
    seconds: float
    windows: int
    correct: int | None = None
    among_five: int | None = None
    nbytes: int | None = None

    @property
    def perplexity(self) -> float:
        """exp(loss): infinite beyond the range of a float, NaN of NaN."""
        return math.inf if self.loss >= 700.0 else math.exp(self.loss)

    @property
    def accuracy(self) -> float | None:
        """Share of the targets that were the most probable token."""
        return None if self.correct is None else self.correct / self.targets

    @property
    def top5_accuracy(self) -> float | None:
        """Share of the targets that were among the five most probable tokens."""
        return None if self.among_five is None else self.among_five / self.targets

    @property
    def bpb(self) -> float | None:
        """Bits per byte: the targets' losses over ln 2, by the bytes they stand for.

        Unlike the loss, it can be compared between tokenizers.
        """
        return self.loss * self.targets / math.log(2) / self.nbytes if self.nbytes else None

    @property
    def samples_per_second(self) -> float:
        """Windows per second."""
        return self.windows / self.seconds if self.seconds else math.inf

    def metrics(self) -> dict[str, float]:
        """Return what is known, by the names that sinks get."""
        found = {
            "eval/loss": self.loss,
            "eval/perplexity": self.perplexity,
            "eval/accuracy": self.accuracy,
            "eval/top5_accuracy": self.top5_accuracy,
            "eval/bpb": self.bpb,
            "eval/runtime": self.seconds,
            "eval/samples_per_second": self.samples_per_second,
        }
        return {name: value for name, value in found.items() if value is not None}


def evaluate(
    model: Model,
    dataset: Dataset,
    loss: Loss,
    *,
    batch_size: int = 32,
    max_batches: int = 0,
    tokenizer: Tokenizer | None = None,
    check: Callable[[], None] | None = None,
    communicator: Communicator | None = None,
) -> Evaluation:
    """Compute loss and accuracy over the windows of a dataset, in order, without dropout.

    Parameters
    ----------
    model : Model
    dataset : Dataset
    loss : Loss
    batch_size : int
        Windows per forward pass; the result does not depend on it beyond rounding.
    max_batches : int
        At most so many forward passes, over windows that are spread evenly; 0 takes every window.
    tokenizer : Tokenizer, optional
        Counts the bytes of the targets. One with fewer ids than the dataset is not asked.
    check : callable, optional
        Called before each forward pass; what it raises ends the evaluation.
    communicator : Communicator, optional
        Its ranks, all of which call this, share out the batches; the result is the same.

    Raises
    ------
    ConfigError
        If the model makes vectors of texts, for which there is ``evaluate_texts``.
    DataError
        If the windows have no target.
    """
    start = time.perf_counter()
    language_model(model, "evaluate")
    ranking = _Ranking(loss) if loss.needs == "logits" else None
    if tokenizer is not None and dataset.vocab_size > tokenizer.vocab_size:
        tokenizer = None
    found: list[_Seen] = []
    for rows in spread_batches(dataset, batch_size, max_batches, communicator):
        if check is not None:
            check()
        if communicator is not None:
            communicator.beat("an evaluation")
        found.append(_look(model, rows, ranking or loss, ranking, tokenizer))
    seen = _all_seen(found, communicator)
    if seen.targets == 0:
        raise DataError("evaluation: the dataset has no target; give it a longer text")
    return Evaluation(
        seen.loss / seen.targets,
        int(seen.targets),
        time.perf_counter() - start,
        int(seen.windows),
        None if ranking is None else int(seen.correct),
        None if ranking is None else int(seen.among_five),
        None if tokenizer is None else int(seen.nbytes),
    )


class _Seen(NamedTuple):
    """What one batch, or all of them, came to: sums; the counts are whole numbers."""

    loss: float
    targets: float
    windows: float
    correct: float
    among_five: float
    nbytes: float


def _look(
    model: Model, rows: Rows, loss: Loss, ranking: _Ranking | None, tokenizer: Tokenizer | None
) -> _Seen:
    """Make a pass over a batch."""
    real_BT = rows.y != IGNORE_INDEX
    batch = rows.weighed(target_weights(rows.y, np.float64))
    model.check_start(rows.start, rows.x.shape)
    mean = model.step_loss(batch, loss, gradient=False, train=False)
    count = int(real_BT.sum())
    correct, among_five = (0, 0) if ranking is None else ranking.take_counts()
    nbytes = 0 if tokenizer is None else tokenizer.count_bytes(rows.y[real_BT])
    return _Seen(mean * count, count, len(rows.x), correct, among_five, nbytes)


def _all_seen(found: list[_Seen], communicator: Communicator | None) -> _Seen:
    """Add up all batches, of all ranks, in the order of the batches."""
    if communicator is not None and communicator.size > 1:
        ranks = rows_of_ranks(communicator, found, len(_Seen._fields))
        longest = max(map(len, ranks))
        in_order = (rows[i] for i in range(longest) for rows in ranks if i < len(rows))
        found = [_Seen(*row) for row in in_order]
    total = _Seen(*(0.0 for _ in _Seen._fields))
    for seen in found:
        total = _Seen(*(sum(pair) for pair in zip(total, seen, strict=True)))
    return total


def spread_batches(
    dataset: Dataset, batch_size: int, max_batches: int, communicator: Communicator | None
) -> Iterator[Rows]:
    """Yield windows in order, in batches: all, or so many batches of them, spread evenly.

    Of several ranks, each gets every so-many-th batch.
    """
    rank, size = (0, 1) if communicator is None else (communicator.rank, communicator.size)
    whole = len(dataset)
    wanted = min(whole, max_batches * batch_size) if max_batches else whole
    for first in range(rank * batch_size, wanted, size * batch_size):
        places = range(first, min(first + batch_size, wanted))
        yield Rows.stack([dataset.window(place * whole // wanted) for place in places])


@final
class _Ranking(Loss):
    """Another loss, which counts on the way how the targets rank among the logits."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self.correct = self.among_five = 0

    def take_counts(self) -> tuple[int, int]:
        """Return the targets that were first, and among the five first, since the last call."""
        counts = self.correct, self.among_five
        self.correct = self.among_five = 0
        return counts

    def tile(
        self, logits_NV: Array, targets_N: Array, weights_N: Array, *, gradient: bool = True
    ) -> Array:
        """Rank the targets, then compute the other loss."""
        ranks_N = np.empty(len(targets_N), dtype=np.int32)
        ops.target_rank(logits_NV, targets_N, ranks_N)
        self.correct += int((ranks_N == 0).sum())
        self.among_five += int(((ranks_N >= 0) & (ranks_N < BEST)).sum())
        return self._loss.tile(logits_NV, targets_N, weights_N, gradient=gradient)
