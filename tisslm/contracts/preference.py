"""Pairs of answers, one of which is preferred: as passes get them, and as a loss sees them.

Letters beside those of ``docs/notation.md``: P pairs. The first row of an array of shape (2, P) is
that of the chosen answers, the second that of the rejected ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tisslm.config.metric_types import Figure, Metric
from tisslm.contracts.batch import IGNORE_INDEX, Batch
from tisslm.contracts.embedding import EmbeddingLoss, TextBatch
from tisslm.contracts.optimization import Loss
from tisslm.contracts.rows import Rows
from tisslm.contracts.stateful import Stateful

__all__ = [
    "PAIR",
    "REFERENCE",
    "AnyLoss",
    "PairBatch",
    "PreferenceLoss",
    "PreferenceValue",
    "Referring",
    "ScoredPairs",
]

Array = NDArray[Any]

#: Among ``Rows.others`` of a pair: the tokens that are read of each of its two texts, (2,).
PAIR = "pair"

#: Among them: the log-probabilities of its two answers by the reference, (2,) of float64.
REFERENCE = "reference"


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """Pairs in the rows of a pass: each prompt with its answer is a document, several in a row.

    Attributes
    ----------
    batch : Batch
        Each target, which is a token of an answer, weighs 1.
    first_S, stop_S : ndarray of int64 of shape (2 P,)
        Text s, that of the chosen answer of a pair before that of its rejected one, has the places
        ``first_S[s]`` to ``stop_S[s] - 1`` of all rows one after another.
    """

    batch: Batch
    first_S: Array  # noqa: N815
    stop_S: Array  # noqa: N815

    @classmethod
    def pack(cls, rows: Rows, time: int) -> PairBatch:
        """Lay the texts of pairs into rows of at most ``time`` tokens, as ``TextBatch`` does.

        Parameters
        ----------
        rows : Rows
            Of pairs: x and y have the two texts of each one after another, ``others[PAIR]`` their
            lengths.
        time : int
            The longest T.

        Raises
        ------
        ShapeError
            If a text is longer than a row.
        """
        x_S, y_S = [], []
        for x_W, y_W, lengths in zip(rows.x, rows.y, rows.others[PAIR].tolist(), strict=True):
            cut, end = lengths[0], sum(lengths)
            x_S += [x_W[:cut], x_W[cut:end]]
            y_S += [y_W[:cut], y_W[cut:end]]
        texts = TextBatch.pack(x_S, time)
        y_N = np.full(texts.x_BT.size, IGNORE_INDEX, np.int32)
        for y, first, stop in zip(y_S, texts.first_P, texts.stop_P, strict=True):
            y_N[first:stop] = y
        y_BT = y_N.reshape(texts.x_BT.shape)
        weights_BT = (y_BT != IGNORE_INDEX).astype(np.float64)
        batch = Batch(texts.x_BT, y_BT, weights_BT, texts.start_BT)
        return cls(batch, texts.first_P, texts.stop_P)

    def sums(self, values_BT: Array) -> Array:
        """Add up what is known of each target, for each answer; of shape (2, P), float64."""
        flat_N = values_BT.reshape(-1)
        spans = zip(self.first_S.tolist(), self.stop_S.tolist(), strict=True)
        found = [float(np.sum(flat_N[first:stop], dtype=np.float64)) for first, stop in spans]
        return np.ascontiguousarray(np.array(found).reshape(-1, 2).T)

    def spread(self, values_2P: Array) -> Array:
        """Give each target what its answer has, and 0 to the rest; of shape (B, T), float64."""
        flat_N = np.zeros(self.batch.y_BT.size)
        spans = zip(self.first_S, self.stop_S, values_2P.T.reshape(-1), strict=True)
        for first, stop, value in spans:
            flat_N[first:stop] = value
        weights_BT: Array = flat_N.reshape(self.batch.y_BT.shape) * self.batch.weights_BT
        return weights_BT


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPairs:
    """What a loss is told of some pairs.

    Attributes
    ----------
    policy_2P : ndarray of shape (2, P), float64
        The log-probability of each answer given its prompt, in nats, by the model that is trained.
    reference_2P : ndarray of shape (2, P), float64
        The same by the reference; zeros for a loss that needs none.
    lengths_2P : ndarray of shape (2, P), float64
        The tokens of each answer, at least 1.
    """

    policy_2P: Array  # noqa: N815
    reference_2P: Array  # noqa: N815
    lengths_2P: Array  # noqa: N815


@dataclass(frozen=True, slots=True, eq=False)
class PreferenceValue:
    """What a loss of pairs comes to.

    Attributes
    ----------
    losses_P : ndarray of shape (P,), float64
    d_policy_2P : ndarray of shape (2, P), float64
        The gradient of the sum of the losses by ``policy_2P``.
    rewards_2P : ndarray of shape (2, P), float64
        What each answer is worth, by what the loss says of it.
    """

    losses_P: Array  # noqa: N815
    d_policy_2P: Array  # noqa: N815
    rewards_2P: Array  # noqa: N815


_REWARDS = Figure(
    "rewards", "Rewards", "Of chosen and rejected answers, and what is between.", "Preferences"
)
_ACCURACIES = Figure(
    "rewards-accuracies",
    "Pairs in the right order",
    "Share of the pairs whose chosen answer has the larger reward.",
    "Preferences",
)
_LOGPS = Figure(
    "logps", "Log-probabilities", "Of the answers, in nats, a mean over the pairs.", "Preferences"
)


class PreferenceLoss(Stateful, ABC):
    """A loss of pairs of answers, which sees their log-probabilities.

    A pair's loss follows from that pair alone; a run takes the mean over all pairs of an update.
    """

    #: Whether it takes the log-probabilities of a reference.
    needs_reference: bool = True

    declares = (
        Metric("rewards/chosen", "chosen", figure=_REWARDS),
        Metric("rewards/rejected", "rejected", figure=_REWARDS),
        Metric(
            "rewards/margins",
            "margin",
            line="margin {:.3f}",
            better="max",
            figure=_REWARDS,
            short="reward margin",
        ),
        Metric(
            "rewards/accuracies",
            "chosen above rejected",
            format="{:.1%}",
            line="right {:.0%}",
            better="max",
            figure=_ACCURACIES,
            short="pairs in order",
        ),
        Metric("logps/chosen", "chosen", figure=_LOGPS),
        Metric("logps/rejected", "rejected", figure=_LOGPS),
    )

    _seen: Mapping[str, float] | None = None

    @abstractmethod
    def value(self, pairs: ScoredPairs) -> PreferenceValue:
        """Compute the loss of each pair, its gradient, and the rewards."""

    @final
    def note(self, measures: Mapping[str, float]) -> None:
        """Be told what the pairs of an update came to, by the names of ``declares``."""
        self._seen = dict(measures)

    def metrics(self) -> Mapping[str, float]:
        """Return what the pairs of the last update came to."""
        return self._seen or {}


#: What a run may be trained by.
AnyLoss = Loss | EmbeddingLoss | PreferenceLoss


@runtime_checkable
class Referring(Protocol):
    """A dataset of pairs that keeps the log-probabilities of a reference, and gives them along.

    Attributes
    ----------
    reference : ndarray of shape (N, 2) or None
        Of the chosen and the rejected answer of each window, float64; None as long as they are not
        known. Windows have them as ``others[REFERENCE]`` from then on.
    """

    reference: Array | None

    def __len__(self) -> int: ...

    def window(self, i: int) -> Rows:
        """Return a window, as ``Dataset.window`` does."""

    def fingerprint(self) -> str:
        """Return a text by which the pairs are known again; the reference is no part of it."""
