"""Whether a step may be applied: its loss and gradients are finite, and its loss is no spike.

It is asked between the gradients and the update, so what is refused has changed no parameter.

What does not live here: what a spike is (``spikes``), where a number that is not finite came from
(``provenance``), what is known of a refused step (``incidents``), and overflows that a loss scale
explains (``update``).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from tisslm.contracts import Window
from tisslm.errors import NonFiniteError, SpikeError
from tisslm.incidents import Incident, describe
from tisslm.provenance import investigate
from tisslm.spikes import find_spike

if TYPE_CHECKING:
    from tisslm.trainer import Trainer

__all__ = ["may_apply"]


def may_apply(
    trainer: Trainer, window: Window, loss: float, norm: float, again: Callable[[], float]
) -> bool:
    """Tell whether the gradients of a step may be applied; if not, count it as skipped.

    Parameters
    ----------
    trainer : Trainer
    window : tuple of integer ndarrays of shape (B, T)
        Of the step: x, y, and start where rows hold several documents.
    loss : float
        Of the step, in nats.
    norm : float
        Of its gradients, without the loss scale.
    again : callable
        Runs the passes of the window once more, and returns the loss: what is done at once to see
        where a number that is not finite comes from.

    Raises
    ------
    NonFiniteError
        If loss or norm is not finite, and the run is to stop at it: at once, or because it is
        the ``max_nonfinite``-th step in a row that was not applied.
    SpikeError
        If the loss is a spike, and the run is to stop at it.
    """
    config = trainer.config
    if not (math.isfinite(loss) and math.isfinite(norm)):
        what = f"the loss is {loss:.6g} and the gradient norm {norm:.6g}"
        finding = investigate(trainer, again, window[0].shape[1])
        incident = describe(trainer, "nonfinite", window, loss, norm, finding)
        _refuse(trainer, incident, what, config.on_nonfinite)
        return False
    if config.spike_action == "off":
        return True
    spike = find_spike(
        trainer.loss_history, loss, window=config.spike_window, threshold=config.spike_threshold
    )
    if spike is None:
        return True
    what = (
        f"the loss is {loss:.6g}, {spike.distance:.3g} deviations above {spike.median:.6g}, the "
        f"median of the last {config.spike_window}"
    )
    if config.spike_action == "warn":
        _warn(f"step {trainer.current_step + 1}: {what}")
        return True
    incident = describe(trainer, "spike", window, loss, norm)
    _refuse(trainer, incident, what, config.spike_action)
    return False


def _refuse(trainer: Trainer, incident: Incident, what: str, policy: str) -> None:
    """Count a step as skipped and warn, or raise where the run is to stop."""
    state, limit = trainer.state, trainer.config.max_nonfinite
    number, kind = state.refused_in_a_row + 1, incident.kind
    file = incident.write(trainer.run.path) if trainer.run.made else None
    noted = f"; more in {file}" if file is not None else ""
    found = "" if incident.finding is None else f"; {incident.finding.words}"
    begin = f"step {incident.step}: {what}{found}"
    if policy == "skip" and number < limit:
        state.refused_in_a_row = number
        state.skipped += 1
        _warn(
            f"{begin}; not applied, {number} in a row (training.max_nonfinite = {limit}): "
            f"{incident.samples}{noted}"
        )
        return
    row = f" the {number} steps in a row that were not applied end the run;" if number > 1 else ""
    error = NonFiniteError if kind == "nonfinite" else SpikeError
    raise error(
        f"{begin};{row} the parameters are those of step {state.step}. It was made of "
        f"{incident.samples}{noted}. {_advice(trainer, incident)}. To make it again: "
        f"{incident.replay(file)}"
    )


def _advice(trainer: Trainer, incident: Incident) -> str:
    if incident.kind == "spike":
        return (
            "Lower training.learning_rate or look at these samples; training.spike_action = "
            '"warn" goes on over spikes'
        )
    finding, fault = incident.finding, getattr(incident.finding, "fault", None)
    if finding is not None and finding.recurs is False:
        return "Go on from the last checkpoint, on another machine or after a test of this one"
    if fault is not None and fault.kind in ("parameter", "state"):
        return (
            "The model itself is damaged: go on from the last checkpoint, with a lower "
            "training.learning_rate if this comes back"
        )
    first = trainer.scaler.stuck or "Lower training.learning_rate"
    advice = f"{first}, lengthen the warm-up, or look at these samples"
    if trainer.passes.precision != "fp16":
        return advice
    return f'{advice}, or train with training.precision = "bf16", which has the range of fp32'


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)
