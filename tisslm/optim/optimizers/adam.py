"""Adam: updates scaled by running means of the gradient and of its square.

The decoupled weight decay is in ``adamw.py``.
"""

from __future__ import annotations

from typing import Any, ClassVar, final

from numpy.typing import NDArray

from tisslm.contracts import Optimizer
from tisslm.contracts.options import LEAST_EPS, number
from tisslm.memory import Parameters
from tisslm.optim.optimizers._moments import update_by_moments
from tisslm.optim.slots import Slots

__all__ = ["Adam"]


@final
class Adam(Optimizer):
    """Update by the mean gradient over the root of the mean square gradient.

    ``d = g + weight_decay p``; ``m = beta1 m + (1 - beta1) d``; ``v = beta2 v + (1 - beta2) d^2``;
    ``p = p - lr (m / c1) / (sqrt(v / c2) + eps)``, with ``c = 1 - beta^t`` in update t (from 1).

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
        L2 penalty, for parameters that decay (matrices by default).

    Raises
    ------
    ConfigError
        If an option is out of range.

    Notes
    -----
    State: ``<parameter>/m``, ``<parameter>/v`` and ``step`` (t).

    References
    ----------
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980.
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
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        self.beta1 = number("optimizer adam: beta1", beta1, 0, 1)
        self.beta2 = number("optimizer adam: beta2", beta2, 0, 1)
        self.eps = number("optimizer adam: eps", eps, LEAST_EPS)
        self.weight_decay = number("optimizer adam: weight_decay", weight_decay, 0)
        self._slots = Slots(parameters, "m", "v")

    def update(self, grad_scale: float) -> None:
        """Make one update, group by group of the flat arenas."""
        update_by_moments(self, self._slots, grad_scale, decoupled=False)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return ``step`` and both running means of each parameter, as views."""
        return self._slots.state()
