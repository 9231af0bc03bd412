"""What is told of a step that was not applied, and whether it ends the run."""

from __future__ import annotations

import warnings
from pathlib import Path

from tisslm.errors import NonFiniteError, SpikeError
from tisslm.training.refusals.guard import Verdict
from tisslm.training.refusals.incidents import Incident

__all__ = ["tell_refusal"]


def tell_refusal(
    incident: Incident,
    verdict: Verdict,
    *,
    number: int,
    limit: int,
    file: Path | None,
    stuck: str,
    precision: str,
) -> None:
    """Warn of a step that was not applied, or raise where the run is to stop at it.

    Parameters
    ----------
    incident : Incident
    verdict : Verdict
    number, limit : int
        How many steps in a row were refused, this one included, and how many end the run.
    file : Path or None
        The file that the incident was written to.
    stuck : str
        What to do about a loss scale that cannot be lowered, "" if it can.
    precision : {"fp32", "bf16", "fp16"}

    Raises
    ------
    NonFiniteError
        If loss or norm is not finite, and the run is to stop at it: at once, or because it is
        the ``max_nonfinite``-th step in a row that was not applied.
    SpikeError
        If the loss is a spike, and the run is to stop at it.
    """
    noted = f"; more in {file}" if file is not None else ""
    found = "" if incident.finding is None else f"; {incident.finding.words}"
    begin = f"step {incident.step}: {verdict.what}{found}"
    if not verdict.stop:
        warnings.warn(
            f"{begin}; not applied, {number} in a row (training.max_nonfinite = {limit}): "
            f"{incident.samples}{noted}",
            RuntimeWarning,
            stacklevel=5,
        )
        return
    row = f" the {number} steps in a row that were not applied end the run;" if number > 1 else ""
    error = NonFiniteError if verdict.kind == "nonfinite" else SpikeError
    raise error(
        f"{begin};{row} the parameters are those of step {incident.step - 1}. It was made of "
        f"{incident.samples}{noted}. {_advice(incident, stuck, precision)}. To make it again: "
        f"{incident.replay(file)}"
    )


def _advice(incident: Incident, stuck: str, precision: str) -> str:
    if incident.kind == "spike":
        return (
            "Lower training.learning_rate or look at these samples; training.spike_action = "
            '"warn" goes on over spikes'
        )
    finding = incident.finding
    fault = None if finding is None else finding.fault
    if finding is not None and finding.recurs is False:
        return "Go on from the last checkpoint, on another machine or after a test of this one"
    if fault is not None and fault.kind in ("parameter", "state"):
        return (
            "The model itself is damaged: go on from the last checkpoint, with a lower "
            "training.learning_rate if this comes back"
        )
    first = stuck or "Lower training.learning_rate"
    advice = f"{first}, lengthen the warm-up, or look at these samples"
    if precision != "fp16":
        return advice
    return f'{advice}, or train with training.precision = "bf16", which has the range of fp32'
