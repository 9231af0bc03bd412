"""Run a failed window again, with every op checked, and say where it fails.

What does not live here: the checks (``tracer``), and the window's passes, which the caller hands in
as a function.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Loss, Stateful
from tisslm.memory import Parameters
from tisslm.provenance.fault import Fault, Kind
from tisslm.provenance.finding import Finding
from tisslm.provenance.scanning import Spot, find_non_finite
from tisslm.provenance.tracer import Tracer
from tisslm.provenance.watched_loss import WatchedLoss

if TYPE_CHECKING:
    from tisslm.trainer import Trainer

__all__ = ["investigate"]

Array = NDArray[Any]


def investigate(trainer: Trainer, again: Callable[[], float], time: int) -> Finding:
    """Run a window's passes again and find the first number that is not finite.

    Nothing of the run changes but the gradients, which are those of the window once more.

    Parameters
    ----------
    trainer : Trainer
        As it was before the window: no update was made of it.
    again : callable
        Leaves the gradients of the window and returns its loss, as before.
    time : int
        T of the window.

    Returns
    -------
    Finding
        Also where the pass cannot be made, for an error in it must hide nothing.
    """
    parameters, loss_fn = trainer.model.parameters, trainer.loss_fn
    tracer = Tracer(parameters, trainer.config.batch_size, time)
    kept = _state(loss_fn)
    trainer.loss_fn = WatchedLoss(loss_fn, tracer)
    try:
        with ops.watching(tracer), trainer.model.observed(tracer), np.errstate(all="ignore"):
            loss = again()
        norm = trainer.compute_grad_norm()
    except Exception as error:
        return Finding(None, math.nan, math.nan, remark=f"{type(error).__name__}: {error}")
    finally:
        trainer.loss_fn = loss_fn
        if kept:
            loss_fn.load_state(kept)
    if math.isfinite(loss) and math.isfinite(norm):
        return Finding(False, loss, norm, remark=_why_not(loss_fn))
    fault = tracer.fault or _array_fault(tracer, parameters)
    if fault is not None and fault.kind == "parameter":
        fault = _made_by_update(fault, trainer)
    return Finding(True, loss, norm, fault)


def _state(loss: Loss) -> Any:
    """Return a copy of what a loss remembers, nothing for one that remembers nothing."""
    return json.loads(json.dumps(loss.state()))


def _why_not(loss: Loss) -> str:
    """Say why two passes may differ, "" if they may not."""
    if type(loss).state is Stateful.state:
        return ""
    return (
        f"the loss {type(loss).__name__} keeps a state, so the two passes may differ by that; "
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


def _made_by_update(fault: Fault, trainer: Trainer) -> Fault:
    """Tell whether the last update took a parameter's bad number from the optimizer's state.

    The gradients of that update were finite, or it would not have been made. So a state that is not
    finite at the same element was so before, or overflowed in it.
    """
    parameters = trainer.model.parameters
    shape = parameters[fault.name].shape
    element = np.ravel_multi_index(fault.index, shape)
    state = parameters.by_parameter(trainer.optimizer.state())
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
                op=f"{type(trainer.optimizer).__name__}.update",
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
