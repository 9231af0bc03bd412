"""Whether a step may be applied: its loss and gradients are finite, and its loss is no spike.

It is asked between the gradients and the update, so what is refused has changed no parameter.

What does not live here: what a spike is (``spikes``), what is known of a refused step
(``incidents``), and overflows that a loss scale explains (``update``).
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tisslm.errors import NonFiniteError, SpikeError
from tisslm.incidents import describe
from tisslm.spikes import find_spike

if TYPE_CHECKING:
    from tisslm.trainer import Trainer

__all__ = ["may_apply"]

Array = NDArray[Any]


def may_apply(trainer: Trainer, x: Array, y: Array, loss: float, norm: float) -> bool:
    """Tell whether the gradients of a step may be applied; if not, count it as skipped.

    Parameters
    ----------
    trainer : Trainer
    x, y : integer ndarrays of shape (B, T)
        Of the step.
    loss : float
        Of the step, in nats.
    norm : float
        Of its gradients, without the loss scale.

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
        _refuse(trainer, "nonfinite", what, config.on_nonfinite, (x, y, loss, norm))
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
    _refuse(trainer, "spike", what, config.spike_action, (x, y, loss, norm))
    return False


def _refuse(
    trainer: Trainer, kind: str, what: str, policy: str, step: tuple[Array, Array, float, float]
) -> None:
    """Count a step as skipped and warn, or raise where the run is to stop."""
    state, limit = trainer.state, trainer.config.max_nonfinite
    incident = describe(trainer, kind, *step)
    number = state.refused_in_a_row + 1
    file = incident.write(trainer.run.path, number) if trainer.run.made else None
    noted = f"; more in {file}" if file is not None else ""
    begin = f"step {incident.step}: {what}"
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
        f"{incident.samples}{noted}. {_advice(trainer, kind)}. To make it again: {incident.replay}"
    )


def _advice(trainer: Trainer, kind: str) -> str:
    if kind == "spike":
        return (
            "Lower training.learning_rate or look at these samples; training.spike_action = "
            '"warn" goes on over spikes'
        )
    first = trainer.scaler.stuck or "Lower training.learning_rate"
    advice = f"{first}, lengthen the warm-up, or look at these samples"
    if trainer.passes.precision != "fp16":
        return advice
    return f'{advice}, or train with training.precision = "bf16", which has the range of fp32'


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)
