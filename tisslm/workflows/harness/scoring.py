"""Log-probabilities of continuations, and whether they are what the model would say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Loss, Model
from tisslm.contracts.batch import IGNORE_INDEX
from tisslm.contracts.rows import Rows

__all__ = ["Score", "score"]

Array = NDArray[Any]


class Score(NamedTuple):
    """What a model says to a continuation.

    Attributes
    ----------
    log_probability : float
        ln p of all its tokens, given what is before them.
    greedy : bool
        Whether each of them is the most probable one.
    """

    log_probability: float
    greedy: bool


def score(
    model: Model,
    loss: Loss,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_size: int,
) -> list[Score]:
    """Return the score of each continuation, in the order of the pairs.

    Parameters
    ----------
    model : Model
    loss : Loss
        The cross-entropy.
    pairs : sequence of (context, continuation)
        Token ids, of which a continuation has at least one and a context, too. What does not fit
        the model's context is cut from the front.
    batch_size : int
        Rows of a pass. A score does not depend on it beyond rounding.
    """
    found: list[Score | None] = [None] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i])))
    for first in range(0, len(order), batch_size):
        part = order[first : first + batch_size]
        for i, one in zip(part, _score_rows(model, loss, [pairs[i] for i in part]), strict=True):
            found[i] = one
    return [one for one in found if one is not None]


def _score_rows(
    model: Model, loss: Loss, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> list[Score]:
    """Score some pairs in one pass; rows are filled up at the end, which no token before sees."""
    whole = [[*context, *continuation][-model.seq_len - 1 :] for context, continuation in pairs]
    longest = max(map(len, whole)) - 1
    x_BT = np.zeros((len(pairs), longest), dtype=np.int32)
    y_BT = np.full((len(pairs), longest), IGNORE_INDEX, dtype=np.int32)
    for row, (ids, (_, continuation)) in enumerate(zip(whole, pairs, strict=True)):
        end = len(ids) - 1
        x_BT[row, :end] = ids[:-1]
        count = min(len(continuation), end)
        y_BT[row, end - count : end] = ids[len(ids) - count :]
    seen = _Seen(loss)
    weights_BT = (y_BT != IGNORE_INDEX).astype(np.float64)
    model.step_loss(Rows(x_BT, y_BT).weighed(weights_BT), seen, gradient=False, train=False)
    losses_BT = np.concatenate(seen.losses).reshape(y_BT.shape)
    ranks_BT = np.concatenate(seen.ranks).reshape(y_BT.shape)
    return [
        Score(-float(losses_T.sum()), bool((ranks_T <= 0).all()))
        for losses_T, ranks_T in zip(losses_BT, ranks_BT, strict=True)
    ]


@final
class _Seen(Loss):
    """Another loss, which keeps each row's loss and the rank of its target."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self.losses: list[Array] = []
        self.ranks: list[Array] = []

    def tile(
        self, logits_NV: Array, targets_N: Array, weights_N: Array, *, gradient: bool = True
    ) -> Array:
        """Rank the targets, then compute the other loss, and keep both."""
        ranks_N = np.empty(len(targets_N), dtype=np.int32)
        ops.target_rank(logits_NV, targets_N, ranks_N)
        losses_N = self._loss.tile(logits_NV, targets_N, weights_N, gradient=gradient)
        self.ranks.append(ranks_N)
        self.losses.append(losses_N.astype(np.float64))
        return losses_N
