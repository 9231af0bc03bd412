"""Run the passes of a failed step again, with every operation checked, and say where they fail.

The checks are in ``tracer``; the passes are a function that the caller hands in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import AnyLoss, Loss, Network, Optimizer, PreferenceLoss, Stateful
from tisslm.contracts.part_names import name_of
from tisslm.memory import Parameters
from tisslm.memory.finite import Spot, find_non_finite
from tisslm.training.nonfinite.finding import Fault, Finding, Kind
from tisslm.training.nonfinite.tracer import Tracer
from tisslm.training.nonfinite.watched_losses import WatchedLoss, WatchedPairs, WatchedTexts

__all__ = ["investigate"]

Array = NDArray[Any]


def investigate(
    model: Network,
    loss: AnyLoss,
    optimizer: Optimizer,
    *,
    rerun: Callable[[AnyLoss], float],
    norm: Callable[[], float],
    rows: int,
    time: int,
) -> Finding:
    """Run the passes of a step again and find the first number that is not finite.

    Nothing of the run changes but the gradients, which are those of the step once more.

    Parameters
    ----------
    model : Network
    loss : AnyLoss
    optimizer : Optimizer
        All three are as they were before the step, since it made no update.
    rerun : callable
        It runs the passes with the loss that it is given, leaves the gradients, and returns the
        value of the loss.
    norm : callable
        It returns the norm of those gradients.
    rows, time : int
        B and T of a micro-batch.

    Returns
    -------
    Finding
        There is one even where the passes cannot be run: an error in the search must not hide what
        is known of the step.
    """
    parameters, kept = model.parameters, _state(loss)
    tracer = Tracer(parameters, rows, time)
    try:
        with ops.watching(tracer), model.observed(tracer), np.errstate(all="ignore"):
            value = rerun(_watched(loss, tracer))
        size = norm()
    except Exception as error:
        return Finding(None, math.nan, math.nan, remark=f"{type(error).__name__}: {error}")
    finally:
        if kept:
            loss.load_state(kept)
    if math.isfinite(value) and math.isfinite(size):
        return Finding(False, value, size, remark=_why_not(loss))
    fault = tracer.fault or _array_fault(tracer, parameters)
    if fault is not None and fault.kind == "parameter":
        fault = _made_by_update(fault, optimizer)
    return Finding(True, value, size, fault)


def _watched(loss: AnyLoss, tracer: Tracer) -> AnyLoss:
    """Return a loss that shows the tracer what goes in and what comes out."""
    if isinstance(loss, PreferenceLoss):
        return WatchedPairs(loss, tracer)
    return WatchedLoss(loss, tracer) if isinstance(loss, Loss) else WatchedTexts(loss, tracer)


def _state(loss: AnyLoss) -> Any:
    """Return a copy of what a loss remembers, nothing for one that remembers nothing."""
    return json.loads(json.dumps(loss.state()))


def _why_not(loss: AnyLoss) -> str:
    """Say why two passes may differ, "" if they may not."""
    if type(loss).state is Stateful.state:
        return ""
    return (
        f"the loss {name_of(loss)} keeps a state, so the two passes may differ by that; "
        "otherwise it was a fault of the hardware"
    )


def _array_fault(tracer: Tracer, parameters: Parameters) -> Fault | None:
    """Return the first parameter or gradient that is not finite, though no op has met it."""
    for parameter in parameters:
        spot = find_non_finite(parameter.data)
        if spot is not None:
            return _of(
                "parameter", tracer.place_of(parameter.name), "forward", parameter.name, spot
            )
    for parameter in parameters:
        spot = find_non_finite(parameter.grad) if parameter.trainable else None
        if spot is not None:
            return _of(
                "gradient", tracer.place_of(parameter.name), "backward", parameter.name, spot
            )
    return None


def _of(kind: Kind, place: str, direction: str, name: str, spot: Spot) -> Fault:
    return Fault(kind, place, direction, "", "", name, **vars(spot))


def _made_by_update(fault: Fault, optimizer: Optimizer) -> Fault:
    """Tell whether the last update took a parameter's bad number from the optimizer's state.

    The gradients of that update were finite, or it would not have been made. So a state that is not
    finite at the same element was so before, or overflowed in it.
    """
    parameters = optimizer.parameters
    shape = parameters[fault.name].shape
    element = np.ravel_multi_index(fault.index, shape)
    state = parameters.by_parameter(optimizer.state())
    for slot, array in _slots(fault.name, state).items():
        if array.shape[-len(shape) :] != shape:
            continue
        spot = find_non_finite(array.reshape(-1, math.prod(shape))[:, element])
        if spot is not None:
            whole = find_non_finite(array) or spot
            return replace(
                fault,
                kind="state",
                direction="update",
                op=f"{name_of(optimizer)}.update",
                operand=slot,
                name=f"{fault.name}/{slot}",
                value=spot.value,
                count=whole.count,
                size=whole.size,
                micro_batch=None,
            )
    return fault


def _slots(parameter: str, state: Mapping[str, Array]) -> dict[str, Array]:
    begin = f"{parameter}/"
    return {name.removeprefix(begin): state[name] for name in state if name.startswith(begin)}
