"""Lion: step by the sign of an interpolation between momentum and gradient.

What does not live here: clipping and schedules, which the Trainer and schedulers do.
"""

from __future__ import annotations

from math import inf
from numbers import Real
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Optimizer
from tisslm.errors import ConfigError
from tisslm.memory import Arena, Parameters

__all__ = ["Lion"]

#: Elements that are handled at once. Parameter, gradient, momentum and scratch of one block take
#: 256 KiB in float32, so that the seven passes over a block stay in a core's second-level cache.
BLOCK = 16384


@final
class Lion(Optimizer):
    """Move every element by the learning rate, by the sign of momentum mixed with gradient.

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
        self.beta1 = _number("beta1", beta1, 1.0)
        self.beta2 = _number("beta2", beta2, 1.0)
        self.weight_decay = _number("weight_decay", weight_decay, inf)
        data_P = parameters.data
        self._momentum_P = Arena(data_P.nbytes).take(data_P.shape, data_P.dtype)
        self._scratch = np.empty(min(BLOCK, data_P.size), dtype=data_P.dtype)

    def update(self, grad_scale: float) -> None:
        """Apply one update, block by block.

        ``grad_scale`` is 1: the class does not say ``takes_grad_scale``, so a pending clip has
        scaled the gradients already.
        """
        data_P, grad_P = self.parameters.data, self.parameters.grad
        for group in self.parameters.groups:
            lr = self.get_lr() * group.lr_scale
            keep = 1.0 - lr * self.weight_decay if group.decay else 1.0
            for start in range(group.start, group.stop, BLOCK):
                part = slice(start, min(start + BLOCK, group.stop))
                self._update_block(data_P[part], grad_P[part], self._momentum_P[part], lr, keep)

    def _update_block(
        self, p: NDArray[Any], g: NDArray[Any], m: NDArray[Any], lr: float, keep: float
    ) -> None:
        c = self._scratch[: len(p)]
        _interpolate(m, g, self.beta1, out=c)
        np.sign(c, out=c)
        c *= lr
        if keep != 1.0:
            p *= keep
        p -= c
        _interpolate(m, g, self.beta2, out=m)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the momentum of each parameter, as views."""
        return self.parameters.by_parameter({"momentum": self._momentum_P})


def _interpolate(m: NDArray[Any], g: NDArray[Any], beta: float, out: NDArray[Any]) -> None:
    """Compute ``beta m + (1 - beta) g`` as ``(m - g) beta + g``, which needs no second scratch."""
    np.subtract(m, g, out=out)
    out *= beta
    out += g


def _number(option: str, value: object, below: float) -> float:
    if isinstance(value, Real) and not isinstance(value, bool) and 0.0 <= float(value) < below:
        return float(value)
    wanted = "a finite number >= 0" if below == inf else f"a number in [0, {below:g})"
    raise ConfigError(f"optimizer lion: {option}: expected {wanted}, got {value!r:.200}")
