"""The guard decides whether a step may be applied: all is finite, and the loss is no spike.

It is asked between the gradients and the update, so what is refused has changed no parameter.

    spike  iff  loss > m + threshold d,   m = median(l_i),   d = 1.4826 median(|l_i - m|)

over the last losses l_i. Neither a trend over the window nor a few earlier spikes move the median
far, which a mean would follow. d is the standard deviation of normal noise.

It keeps no state: the losses are in every checkpoint. What follows from a refusal is in
``incidents``; an overflow that a smaller loss scale may mend is found in ``step``, before.

References
----------
F. Hampel, "The influence curve and its role in robust estimation", JASA 69 (1974).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tisslm.config import TrainingConfig

__all__ = ["Spike", "Verdict", "find_spike", "judge"]

#: Median absolute deviation to standard deviation, for normal noise.
NORMAL = 1.4826

#: The least deviation, as a share of the median: losses that are all alike have none.
LEAST = 1e-3

#: Nats below which a median counts as so much: the rows are known by heart, and what is left of the
#: loss is rounding (6e-8 in float32), of which no multiple means anything.
LEARNT = 1e-3


@dataclass(frozen=True)
class Verdict:
    """The decision about a step.

    Attributes
    ----------
    apply : bool
        Whether the update may be made.
    kind : {"", "nonfinite", "spike"}
        What is wrong with the step; "" if nothing is.
    what : str
        The words of a message for what is wrong.
    stop : bool
        Whether the run is to end, where the update may not be made.
    """

    apply: bool
    kind: str = ""
    what: str = ""
    stop: bool = False


def judge(
    loss: float,
    norm: float,
    history: Sequence[float],
    config: TrainingConfig,
    refused_in_a_row: int,
) -> Verdict:
    """Decide whether the gradients of a step may be applied.

    Parameters
    ----------
    loss : float
        The loss of the step, in nats.
    norm : float
        The norm of its gradients, without the loss scale.
    history : sequence of float
        The losses of the updates so far.
    config : TrainingConfig
        ``on_nonfinite``, ``max_nonfinite``, and the settings of spikes.
    refused_in_a_row : int
        Steps before this one, since the last update, that were not applied.
    """
    limit_reached = refused_in_a_row + 1 >= config.max_nonfinite
    if not (math.isfinite(loss) and math.isfinite(norm)):
        what = f"the loss is {loss:.6g} and the gradient norm {norm:.6g}"
        stop = config.on_nonfinite != "skip" or limit_reached
        return Verdict(False, "nonfinite", what, stop)
    if config.spike_action == "off":
        return Verdict(True)
    window, threshold = config.spike_window, config.spike_threshold
    spike = find_spike(history, loss, window=window, threshold=threshold)
    if spike is None:
        return Verdict(True)
    what = (
        f"the loss is {loss:.6g}, {spike.distance:.3g} deviations above {spike.median:.6g}, the "
        f"median of the last {window}"
    )
    if config.spike_action == "warn":
        return Verdict(True, "spike", what)
    return Verdict(False, "spike", what, config.spike_action != "skip" or limit_reached)


@dataclass(frozen=True)
class Spike:
    """How far a loss is above those before it.

    Attributes
    ----------
    median, deviation : float
        Median and deviation of the losses before it, in nats.
    distance : float
        How far the loss is above the median, in deviations.
    """

    median: float
    deviation: float
    distance: float


def find_spike(
    history: Sequence[float], loss: float, *, window: int, threshold: float
) -> Spike | None:
    """Return how far a loss is above the others if it is a spike, else None.

    No loss is a spike before there are ``window`` of them.

    Parameters
    ----------
    history : sequence of float
        The losses of the updates so far, in nats.
    loss : float
        The loss of the step that may be applied next; finite.
    window : int
        How many of the last losses it is compared with.
    threshold : float
        How many deviations above the median a spike is.
    """
    if len(history) < window:
        return None
    recent = sorted(history[-window:])
    median = _middle(recent)
    if loss <= median:
        return None
    deviation = NORMAL * _middle(sorted(abs(value - median) for value in recent))
    deviation = max(deviation, LEAST * max(abs(median), LEARNT))
    distance = (loss - median) / deviation
    return Spike(median, deviation, distance) if distance > threshold else None


def _middle(ordered: list[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2.0
