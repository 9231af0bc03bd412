"""AdamW: Adam with decoupled weight decay, which is added to the update, not to the gradient."""

from __future__ import annotations

from typing import Any, ClassVar, final

from numpy.typing import NDArray

from tisslm.contracts import Optimizer
from tisslm.contracts.options import LEAST_EPS, number
from tisslm.memory import Parameters
from tisslm.optim.optimizers._moments import update_by_moments
from tisslm.optim.slots import Slots

__all__ = ["AdamW"]


@final
class AdamW(Optimizer):
    """Update by Adam's rule, and shrink parameters by the fraction ``lr weight_decay``.

    ``m = beta1 m + (1 - beta1) g``; ``v = beta2 v + (1 - beta2) g^2``;
    ``p = p - lr ((m / c1) / (sqrt(v / c2) + eps) + weight_decay p)``, with ``c = 1 - beta^t`` in
    update t (from 1).

    Parameters
    ----------
    parameters : Parameters
    lr : float
        Learning rate.
    beta1, beta2 : float
        Decay rates of the two running means, in [0, 1).
    eps : float
        Constant in the denominator, at least 1e-30.
    weight_decay : float
        Decay per update in units of the learning rate, for parameters that decay (matrices by
        default).

    Raises
    ------
    ConfigError
        If an option is out of range.

    Notes
    -----
    State: ``<parameter>/m``, ``<parameter>/v`` and ``step`` (t).

    References
    ----------
    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
    """

    takes_grad_scale: ClassVar[bool] = True
    measures_movement: ClassVar[bool] = True
    scale_free: ClassVar[bool] = True

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, lr)
        self.beta1 = number("optimizer adamw: beta1", beta1, 0, 1)
        self.beta2 = number("optimizer adamw: beta2", beta2, 0, 1)
        self.eps = number("optimizer adamw: eps", eps, LEAST_EPS)
        self.weight_decay = number("optimizer adamw: weight_decay", weight_decay, 0)
        self._slots = Slots(parameters, "m", "v")

    def update(self, grad_scale: float) -> None:
        """Make one update, group by group of the flat arenas."""
        update_by_moments(self, self._slots, grad_scale, decoupled=True)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return ``step`` and both running means of each parameter, as views."""
        return self._slots.state()
