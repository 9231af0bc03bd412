"""Lion: update by the sign of an interpolation between momentum and gradient."""

from __future__ import annotations

from typing import Any, ClassVar, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Optimizer
from tisslm.contracts.options import number
from tisslm.memory import Parameters
from tisslm.optim.slots import Slots
from tisslm_lion import reference

__all__ = ["Lion", "lion_update"]

lion_update = ops.register(
    reference.lion_update, "tisslm_lion._update:lion_update", part="optimizer"
)


@final
class Lion(Optimizer):
    """Change every element by the learning rate, by the sign of momentum mixed with gradient.

    ``c = beta1 m + (1 - beta1) g``; ``p = p - lr (sign(c) + weight_decay p)``;
    ``m = beta2 m + (1 - beta2) g``.

    Parameters
    ----------
    parameters : Parameters
    lr : float
        Learning rate; 3 to 10 times smaller than AdamW's, as the authors advise.
    beta1 : float
        In [0, 1): weight of the momentum in the direction c.
    beta2 : float
        In [0, 1): weight of the old momentum in the new one.
    weight_decay : float
        Decay per update in units of the learning rate, for parameters that decay (matrices by
        default).

    Raises
    ------
    ConfigError
        If an option is out of range.

    Notes
    -----
    State: ``<parameter>/momentum``. Arithmetic is done in the parameters' data type.

    References
    ----------
    Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu and Le, "Symbolic Discovery
    of Optimization Algorithms", arXiv 2302.06675, algorithm 2.
    """

    takes_grad_scale: ClassVar[bool] = True
    scale_free: ClassVar[bool] = True

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        *,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        self.beta1 = number("optimizer lion: beta1", beta1, 0, 1)
        self.beta2 = number("optimizer lion: beta2", beta2, 0, 1)
        self.weight_decay = number("optimizer lion: weight_decay", weight_decay, 0)
        self._slots = Slots(parameters, "momentum")

    def update(self, grad_scale: float) -> None:
        """Make one update, group by group of the flat arenas."""
        data_P, grad_P = self.parameters.data, self.parameters.grad
        for group in self.parameters.groups:
            part = group.slice
            lion_update(
                data_P[part],
                grad_P[part],
                self._slots.flat["momentum"][part],
                self.get_lr() * group.lr_scale,
                self.beta1,
                self.beta2,
                group.decay_of(self.weight_decay),
                grad_scale,
            )

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the momentum of each parameter, as views."""
        return self.parameters.by_parameter(self._slots.flat)
