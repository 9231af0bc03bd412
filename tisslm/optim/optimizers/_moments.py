"""The update of Adam and AdamW, from running means of the gradient and of its square."""

from __future__ import annotations

from typing import Protocol

from tisslm import ops
from tisslm.contracts import UpdateMeter
from tisslm.memory import Parameters
from tisslm.optim.slots import Slots

__all__ = ["update_by_moments"]


class _Moments(Protocol):
    """An optimizer with the options of Adam."""

    parameters: Parameters
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    movement: UpdateMeter | None

    def get_lr(self) -> float: ...


def update_by_moments(
    optimizer: _Moments, slots: Slots, grad_scale: float, *, decoupled: bool
) -> None:
    """Make one update, group by group of the flat arenas, and count it in ``slots.step``."""
    parameters = optimizer.parameters
    data_P, grad_P = parameters.data, parameters.grad
    t, moved = int(slots.step[0]) + 1, optimizer.movement
    for group in parameters.groups:
        part = group.slice
        ops.adam_update(
            data_P[part],
            grad_P[part],
            slots.flat["m"][part],
            slots.flat["v"][part],
            optimizer.get_lr() * group.lr_scale,
            optimizer.beta1,
            optimizer.beta2,
            optimizer.eps,
            group.decay_of(optimizer.weight_decay),
            decoupled,
            1.0 - optimizer.beta1**t,
            1.0 - optimizer.beta2**t,
            grad_scale,
            None if moved is None else moved.part(group),
        )
    slots.step += 1
