"""Spikes: a loss that is far above those of the updates before, told before it is applied.

    spike  iff  loss > m + threshold d,   m = median(l_i),   d = 1.4826 median(|l_i - m|)

over the last losses l_i. Neither a trend over the window nor a few earlier spikes move the median
far, which a mean would follow. d is the standard deviation of normal noise.

What does not live here: what is done about a spike (``rejection``). There is no state: the losses
are in every checkpoint.

References
----------
F. Hampel, "The influence curve and its role in robust estimation", JASA 69 (1974).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Spike", "find_spike"]

#: Median absolute deviation to standard deviation, for normal noise.
NORMAL = 1.4826

#: The least deviation, as a share of the median: losses that are all alike have none.
LEAST = 1e-3


@dataclass(frozen=True)
class Spike:
    """How far a loss is above those before it.

    Attributes
    ----------
    median, deviation : float
        Of the window, in nats.
    distance : float
        Of the loss from the median, in deviations.
    """

    median: float
    deviation: float
    distance: float


def find_spike(
    history: Sequence[float], loss: float, *, window: int, threshold: float
) -> Spike | None:
    """Tell whether a loss is a spike; none is before there are ``window`` losses.

    Parameters
    ----------
    history : sequence of float
        The losses of the updates so far, in nats.
    loss : float
        Of the step that may be applied next; finite.
    window : int
        How many of the last losses to compare with.
    threshold : float
        In deviations.
    """
    if len(history) < window:
        return None
    recent = sorted(history[-window:])
    median = _middle(recent)
    if loss <= median:
        return None
    deviation = NORMAL * _middle(sorted(abs(value - median) for value in recent))
    deviation = max(deviation, LEAST * abs(median))
    distance = (loss - median) / deviation if deviation else float("inf")
    return Spike(median, deviation, distance) if distance > threshold else None


def _middle(ordered: list[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2.0
