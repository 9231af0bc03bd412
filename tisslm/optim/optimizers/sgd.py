"""Stochastic gradient descent, with momentum and Nesterov momentum."""

from __future__ import annotations

from typing import Any, ClassVar, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Optimizer
from tisslm.contracts.options import flag, number
from tisslm.errors import ConfigError
from tisslm.memory import Parameters
from tisslm.optim.slots import Slots

__all__ = ["SGD"]


@final
class SGD(Optimizer):
    """Update by the gradient, or by a decaying sum of gradients.

    ``d = g + weight_decay p``; ``b = momentum b + d`` (at first ``b = d``); ``p = p - lr b``, or
    ``p = p - lr (d + momentum b)`` with ``nesterov``.

    Parameters
    ----------
    parameters : Parameters
    lr : float
        Learning rate.
    momentum : float
        In [0, 1); 0 keeps no state.
    nesterov : bool
        Look ahead along the momentum; needs ``momentum > 0``.
    weight_decay : float
        L2 penalty, for parameters that decay (matrices by default).

    Raises
    ------
    ConfigError
        If an option is out of range.

    Notes
    -----
    State: ``<parameter>/momentum`` is b, if there is momentum.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in
    deep learning", ICML 2013.
    """

    takes_grad_scale: ClassVar[bool] = True
    measures_movement: ClassVar[bool] = True

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        self.momentum = number("optimizer sgd: momentum", momentum, 0, 1)
        self.nesterov = flag("optimizer sgd: nesterov", nesterov)
        self.weight_decay = number("optimizer sgd: weight_decay", weight_decay, 0)
        if self.nesterov and not self.momentum:
            raise ConfigError(
                "optimizer sgd: nesterov: expected momentum > 0 with it, got momentum 0; "
                "set momentum (0.9 is usual) or leave nesterov out"
            )
        self._slots = Slots(parameters, *(["momentum"] if self.momentum else []))

    def update(self, grad_scale: float) -> None:
        """Make one update, group by group of the flat arenas."""
        data_P, grad_P = self.parameters.data, self.parameters.grad
        moved = self.movement
        for group in self.parameters.groups:
            part = group.slice
            ops.sgd_update(
                data_P[part],
                grad_P[part],
                self._slots.part("momentum", part),
                self.get_lr() * group.lr_scale,
                self.momentum,
                self.nesterov,
                group.decay_of(self.weight_decay),
                bool(self._slots.step[0] == 0),
                grad_scale,
                None if moved is None else moved.part(group),
            )
        self._slots.step += 1

    def state(self) -> dict[str, NDArray[Any]]:
        """Return ``step`` and the momentum of each parameter, as views."""
        return self._slots.state()
