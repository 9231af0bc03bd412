"""LAMB: Adam's direction, made as long for each map as a share of the map's own length."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Optimizer
from tisslm.contracts.options import LEAST_EPS, number
from tisslm.memory import Parameters
from tisslm.optim.slots import Slots
from tisslm_optimizers.arrays import BLOCK, Gauge
from tisslm_optimizers.maps import Map, check_whole, maps_of
from tisslm_optimizers.reference import lamb as reference

__all__ = ["Lamb", "lamb_apply", "lamb_moments"]

_MODULE = "tisslm_optimizers._kernels.lamb"
lamb_moments = ops.register(reference.lamb_moments, f"{_MODULE}:lamb_moments", part="optimizer")
lamb_apply = ops.register(reference.lamb_apply, f"{_MODULE}:lamb_apply", part="optimizer")


@final
class Lamb(Optimizer):
    """Update by AdamW's direction times the length of a map over the length of its direction.

    ``m = beta1 m + (1 - beta1) g``; ``v = beta2 v + (1 - beta2) g^2``;
    ``u = (m / c1) / (sqrt(v / c2) + eps) + weight_decay p``; ``p = p - lr (|p| / |u|) u``, with
    ``c = 1 - beta^t`` in update t (from 1). Where one of the lengths is zero, their ratio is 1.

    Lengths are those of a parameter; of a fused product, those of each of its maps.

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
        Decay as a part of the direction, for parameters that decay (matrices by default).

    Raises
    ------
    ConfigError
        If an option is out of range.

    Notes
    -----
    State: ``<parameter>/m``, ``<parameter>/v`` and ``step`` (t).

    References
    ----------
    You and others, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
    arXiv 1904.00962, algorithm 2.
    """

    takes_grad_scale: ClassVar[bool] = True
    measures_movement: ClassVar[bool] = True
    elementwise: ClassVar[bool] = False

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        check_whole("lamb", parameters)
        super().__init__(parameters, lr)
        self.beta1 = number("optimizer lamb: beta1", beta1, 0, 1)
        self.beta2 = number("optimizer lamb: beta2", beta2, 0, 1)
        self.eps = number("optimizer lamb: eps", eps, LEAST_EPS)
        self.weight_decay = number("optimizer lamb: weight_decay", weight_decay, 0)
        self._slots = Slots(parameters, "m", "v")
        self._maps = maps_of(parameters)
        longest = max((one.rows * one.columns for one in self._maps), default=0)
        self._gauge = Gauge(parameters, -(-longest // BLOCK))

    def update(self, grad_scale: float) -> None:
        """Make one update, map by map."""
        data_P, grad_P = self.parameters.data, self.parameters.grad
        with self._gauge.told(self.movement):
            for one in self._maps:
                self._update_map(one, data_P[one.slice], grad_P[one.slice], grad_scale)
        self._slots.step += 1

    def _update_map(
        self, one: Map, p_P: NDArray[Any], g_P: NDArray[Any], grad_scale: float
    ) -> None:
        t = int(self._slots.step[0]) + 1
        m_P, v_P = (self._slots.flat[name][one.slice] for name in "mv")
        decay = one.group.decay_of(self.weight_decay)
        given = (self.eps, decay, 1.0 - self.beta1**t, 1.0 - self.beta2**t)
        sums_K2 = self._gauge.sums(-(-p_P.size // BLOCK))
        lamb_moments(p_P, g_P, m_P, v_P, self.beta1, self.beta2, *given, grad_scale, sums_K2)
        length, step = (math.sqrt(total) for total in sums_K2.sum(axis=0).tolist())
        ratio = length / step if length > 0.0 and step > 0.0 else 1.0
        moved_K2 = self._gauge.wanted(p_P.size)
        rate = self.get_lr() * one.group.lr_scale * ratio
        lamb_apply(p_P, m_P, v_P, rate, *given, moved_K2)
        self._gauge.add(one.group, moved_K2)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return ``step`` and both running means of each parameter, as views."""
        return self._slots.state()
