"""How the next token is chosen from the logits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import ConfigError

__all__ = ["Sampling"]

Array = NDArray[Any]

HEAD = 1024  # most probable tokens that are sorted before all

#: Below this temperature any two float32 logits are infinitely apart, and quotients may overflow.
COLDEST = 1e-30

#: The largest penalty, and the inverse of the smallest: with those beyond, logits may overflow.
MOST_PENALTY = 1e6


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen from the logits.

    Each filter sees what the one before has left, in this order, which is that of Hugging Face
    transformers: repetition penalty, temperature, top-k, top-p, min-p.

    Parameters
    ----------
    temperature : float
        Divisor of the logits; 0 (or less than 1e-30) always takes the most probable token.
    top_k : int
        Only the k most probable tokens are kept; 0 keeps all.
    top_p : float
        Only the most probable tokens that together reach this probability are kept; 1 keeps all.
    seed : int
        Key of the random numbers, from 0 to 2^64 - 1.
    min_p : float
        Only tokens with at least this part of the largest probability are kept; 0 keeps all.
    repetition_penalty : float
        Logits of tokens that are in the prompt or in the new text are divided by it where they are
        positive, and multiplied where they are negative; 1 leaves them. From 1e-6 to 1e6.

    References
    ----------
    Fan, Lewis and Dauphin, "Hierarchical Neural Story Generation", arXiv 1805.04833 (top-k).
    Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv 1904.09751 (top-p).
    Nguyen et al., "Turning Up the Heat: Min-p Sampling", arXiv 2407.01082 (min-p).
    Keskar et al., "CTRL", arXiv 1909.05858, section 4.1 (repetition penalty).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 42
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            value: object = getattr(self, name)  # from a caller, it may be anything
            if not isinstance(value, Real) or isinstance(value, bool):
                raise ConfigError(f"{name}: expected a number, got {value!r}")
        count: object = self.top_k
        if not isinstance(count, Integral) or isinstance(count, bool):
            raise ConfigError(f"top_k: expected an integer >= 0, got {count!r}")
        if not self.temperature >= 0.0:
            raise ConfigError(f"temperature: expected a number >= 0, got {self.temperature!r}")
        if self.top_k < 0:
            raise ConfigError(f"top_k: expected an integer >= 0, got {self.top_k!r}")
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError(f"top_p: expected a number in (0, 1], got {self.top_p!r}")
        if not 0.0 <= self.min_p <= 1.0:
            raise ConfigError(f"min_p: expected a number in [0, 1], got {self.min_p!r}")
        if not 1 / MOST_PENALTY <= self.repetition_penalty <= MOST_PENALTY:
            raise ConfigError(
                "repetition_penalty: expected a number from 1e-6 to 1e6, got "
                f"{self.repetition_penalty!r}"
            )
        seed: object = self.seed  # from a caller, it may be anything
        if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= int(seed) < 2**64:
            raise ConfigError(f"seed: expected an integer from 0 to 2^64 - 1, got {seed!r}")

    def choose(self, logits_V: Array, uniform: float, earlier: Collection[int] = ()) -> int:
        """Return the token that a uniform random number in [0, 1) selects.

        Parameters
        ----------
        logits_V : ndarray of shape (V,)
        uniform : float
        earlier : collection of int
            Ids of the prompt and of the new text, which the repetition penalty is for.
        """
        logits_V = self._penalized(logits_V, earlier)
        if self.temperature < COLDEST:
            return int(np.argmax(logits_V))
        scaled = logits_V.astype(np.float64) / self.temperature
        if self.top_k == 0 and len(scaled) > 4 * HEAD:
            token = self._among_head(scaled, uniform)
            if token is not None:
                return token
        order, probability = self._kept(scaled)
        cumulative = np.cumsum(probability)
        cumulative /= cumulative[-1]
        picked = int(np.searchsorted(cumulative, uniform, side="right"))
        return int(order[min(picked, len(cumulative) - 1)])

    def distribution(self, logits_V: Array, earlier: Collection[int] = ()) -> Array:
        """Return the probability of each token, 0 for those that no random number selects."""
        logits_V = self._penalized(logits_V, earlier)
        found = np.zeros(len(logits_V))
        if self.temperature < COLDEST:
            found[np.argmax(logits_V)] = 1.0
            return found
        order, probability = self._kept(logits_V.astype(np.float64) / self.temperature)
        found[order] = probability / probability.sum()
        return found

    def _penalized(self, logits_V: Array, earlier: Collection[int]) -> Array:
        if self.repetition_penalty == 1.0 or not earlier:
            return logits_V
        ids = np.fromiter(earlier, np.int64, len(earlier))
        ids = np.unique(ids[ids < len(logits_V)])
        found, penalty = logits_V.copy(), self.repetition_penalty
        seen = found[ids]
        found[ids] = np.where(seen < 0, seen * penalty, seen / penalty)
        return found

    def _among_head(self, scaled_V: Array, uniform: float) -> int | None:
        """Return the token if it is one of the most probable, which are sorted much faster."""
        order = _most_probable(scaled_V, HEAD)
        top = scaled_V[order[0]]
        probability = np.exp(scaled_V[order] - top) / np.exp(scaled_V - top).sum()
        kept, cumulative = self._n_kept(probability), np.cumsum(probability)
        if kept < len(order):  # the filters end within the head
            uniform *= float(cumulative[kept - 1])
        elif self.top_p < 1.0 or self.min_p:
            return None
        picked = int(np.searchsorted(cumulative[:kept], uniform, side="right"))
        return int(order[picked]) if picked < kept else None

    def _kept(self, scaled_V: Array) -> tuple[Array, Array]:
        """Return the tokens that all filters keep, most probable first, and their weights."""
        order = _most_probable(scaled_V, self.top_k or len(scaled_V))
        weights = np.exp(scaled_V[order] - scaled_V[order[0]])
        probability = weights / weights.sum()
        kept = self._n_kept(probability)
        return order[:kept], probability[:kept]

    def _n_kept(self, probability: Array) -> int:
        """Return how many of the most probable tokens top-p and min-p keep."""
        kept = len(probability)
        if self.top_p < 1.0:
            kept = int(np.searchsorted(np.cumsum(probability), self.top_p)) + 1
        if self.min_p:  # probabilities fall, so those that are too small are the last ones
            least = self.min_p * probability[0]
            kept = min(kept, int(np.searchsorted(-probability, -least, side="right")))
        return min(kept, len(probability))


def _most_probable(scaled_V: Array, count: int) -> Array:
    """Return the first ids in falling order of their logits; of equals, the lower id."""
    least = np.nan if count >= len(scaled_V) else np.partition(scaled_V, -count)[-count]
    if np.isnan(least):  # all are asked for, or there are as many NaN
        return np.argsort(-scaled_V, kind="stable")[:count]
    candidates = np.flatnonzero(scaled_V >= least)
    order = candidates[np.argsort(-scaled_V[candidates], kind="stable")]
    return np.asarray(order[:count])
