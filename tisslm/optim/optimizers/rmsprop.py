"""RMSprop: updates scaled by the running root mean square of the gradient."""

from __future__ import annotations

from typing import Any, ClassVar, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Optimizer
from tisslm.contracts.options import LEAST_EPS, flag, number
from tisslm.memory import Parameters
from tisslm.optim.slots import Slots

__all__ = ["RMSprop"]


@final
class RMSprop(Optimizer):
    """Update by the gradient over its running root mean square, or standard deviation.

    ``d = g + weight_decay p``; ``square = alpha square + (1 - alpha) d^2``;
    ``s = d / (sqrt(square) + eps)``; ``b = momentum b + s``; ``p = p - lr b``. With ``centered``,
    ``average = alpha average + (1 - alpha) d`` and ``s = d / (sqrt(square - average^2) + eps)``.

    Parameters
    ----------
    parameters : Parameters
    lr : float
        Learning rate.
    alpha : float
        Decay rate of the running means, in [0, 1).
    eps : float
        Constant in the denominator, at least 1e-30.
    weight_decay : float
        L2 penalty, for parameters that decay (matrices by default).
    momentum : float
        In [0, 1); 0 keeps no buffer.
    centered : bool
        Divide by the standard deviation instead of the root mean square.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Notes
    -----
    State: ``<parameter>/square``; ``<parameter>/average`` if centered; ``<parameter>/momentum``
    is b, if there is momentum.

    References
    ----------
    Tieleman and Hinton, "Lecture 6.5: RMSProp", Coursera 2012.
    Graves, "Generating Sequences With Recurrent Neural Networks", arXiv 1308.0850 (centered).
    """

    takes_grad_scale: ClassVar[bool] = True
    measures_movement: ClassVar[bool] = True
    scale_free: ClassVar[bool] = True

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(parameters, lr)
        self.alpha = number("optimizer rmsprop: alpha", alpha, 0, 1)
        self.eps = number("optimizer rmsprop: eps", eps, LEAST_EPS)
        self.weight_decay = number("optimizer rmsprop: weight_decay", weight_decay, 0)
        self.momentum = number("optimizer rmsprop: momentum", momentum, 0, 1)
        self.centered = flag("optimizer rmsprop: centered", centered)
        names = ["square"]
        if self.centered:
            names.append("average")
        if self.momentum:
            names.append("momentum")
        self._slots = Slots(parameters, *names)

    def update(self, grad_scale: float) -> None:
        """Make one update, group by group of the flat arenas."""
        data_P, grad_P = self.parameters.data, self.parameters.grad
        moved = self.movement
        for group in self.parameters.groups:
            part = group.slice
            ops.rmsprop_update(
                data_P[part],
                grad_P[part],
                self._slots.flat["square"][part],
                self._slots.part("average", part),
                self._slots.part("momentum", part),
                self.get_lr() * group.lr_scale,
                self.alpha,
                self.eps,
                group.decay_of(self.weight_decay),
                self.momentum,
                grad_scale,
                None if moved is None else moved.part(group),
            )
        self._slots.step += 1

    def state(self) -> dict[str, NDArray[Any]]:
        """Return ``step`` and the running means and momentum of each parameter, as views."""
        return self._slots.state()
