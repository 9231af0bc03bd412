"""Schedule-free AdamW: evaluated at an average, trained between it and what is averaged."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Optimizer
from tisslm.contracts.options import LEAST_EPS, number
from tisslm.memory import Parameters
from tisslm.optim.slots import Slots
from tisslm_optimizers.reference import schedule_free as reference

__all__ = ["ScheduleFreeAdamW", "schedule_free_point", "schedule_free_update"]

_MODULE = "tisslm_optimizers._kernels.schedule_free"
schedule_free_update = ops.register(
    reference.schedule_free_update, f"{_MODULE}:schedule_free_update", part="optimizer"
)
schedule_free_point = ops.register(
    reference.schedule_free_point, f"{_MODULE}:schedule_free_point", part="optimizer"
)


@final
class ScheduleFreeAdamW(Optimizer):
    """AdamW with an average in place of a schedule that ends.

    Gradients are taken at ``y = (1 - beta1) z + beta1 x``. ``v = beta2 v + (1 - beta2) g^2``;
    ``z = z - lr (g / (sqrt(v / c2) + eps) + weight_decay y)``, with ``c2 = 1 - beta2^t`` in update
    t (from 1); ``x = (1 - c) x + c z``, with ``c = lr^2 / (sum of lr^2 so far)``.

    The parameters are y while they are trained. What is evaluated, sampled, saved and exported is x
    (``show_average``), and a run may end at any step: a constant rate after a warm-up is all that
    it needs for a schedule.

    Parameters
    ----------
    parameters : Parameters
    lr : float
        Learning rate; 1 to 10 times AdamW's, as the authors advise.
    beta1 : float
        In (0, 1): weight of the average in the point that gradients are taken at.
    beta2 : float
        In [0, 1): decay rate of the running mean of squares.
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
    State: ``<parameter>/x``, ``<parameter>/z``, ``<parameter>/v``, ``step`` (t) and ``weight``, the
    sum of squared rates. The paper has the root of c2 in the rate, and thereby in the weights of
    the average; it is in the denominator here, as in the authors' later code.

    References
    ----------
    Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky, "The Road Less Scheduled",
    arXiv 2405.15682, algorithm 1.
    """

    takes_grad_scale: ClassVar[bool] = True
    measures_movement: ClassVar[bool] = True
    scale_free: ClassVar[bool] = True
    has_average: ClassVar[bool] = True

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
        self.beta1 = number("optimizer schedule_free_adamw: beta1", beta1, 0, 1)
        self.beta2 = number("optimizer schedule_free_adamw: beta2", beta2, 0, 1)
        self.eps = number("optimizer schedule_free_adamw: eps", eps, LEAST_EPS)
        self.weight_decay = number("optimizer schedule_free_adamw: weight_decay", weight_decay, 0)
        self._slots = Slots(parameters, "x", "z", "v")
        self._weight = np.zeros(1)

    def show_average(self, shown: bool) -> None:
        """Give the parameters x, or y; x is kept as it is, so both can be gone back to."""
        data_P, flat = self.parameters.data, self._slots.flat
        if shown:
            np.copyto(data_P, flat["x"])
        else:
            np.copyto(flat["x"], data_P)
            if not self._slots.step[0]:
                np.copyto(flat["z"], data_P)
            schedule_free_point(data_P, flat["x"], flat["z"], self.beta1)
        self.shows_average = shown

    def update(self, grad_scale: float) -> None:
        """Make one update, group by group of the flat arenas."""
        if self.shows_average:  # nobody has trained yet, or somebody who does not know of averages
            self.show_average(False)
        data_P, grad_P, flat = self.parameters.data, self.parameters.grad, self._slots.flat
        lr, t, moved = self.get_lr(), int(self._slots.step[0]) + 1, self.movement
        self._weight += lr * lr
        share = lr * lr / weight if (weight := float(self._weight[0])) else 0.0
        for group in self.parameters.groups:
            part = group.slice
            schedule_free_update(
                data_P[part],
                grad_P[part],
                flat["x"][part],
                flat["z"][part],
                flat["v"][part],
                lr * group.lr_scale,
                self.beta1,
                self.beta2,
                self.eps,
                group.decay_of(self.weight_decay),
                1.0 - self.beta2**t,
                share,
                grad_scale,
                None if moved is None else moved.part(group),
            )
        self._slots.step += 1

    def state(self) -> dict[str, NDArray[Any]]:
        """Return ``step``, ``weight``, and x, z and v of each parameter, as views."""
        return {"weight": self._weight, **self._slots.state()}
