"""An optimizer as a third party may write it: its state lies flat, as the parameters do."""

from __future__ import annotations

import numpy as np

from tisslm.contracts import Optimizer


class FlatMoments(Optimizer):
    """Adam without corrections; ``moments`` are two flat arrays in one, ``count`` is one number."""

    test_options = ({},)

    def __init__(self, parameters, lr, *, beta=0.5):
        super().__init__(parameters, lr)
        self.beta = beta
        self.moments = np.zeros((2, *parameters.data.shape), parameters.data.dtype)
        self.count = np.zeros(1, np.int64)

    def update(self, grad_scale):
        p_P, g_P = self.parameters.data, self.parameters.grad
        for group in self.parameters.groups:
            part = group.slice
            for moment, power in zip(self.moments, (g_P, g_P * g_P), strict=True):
                moment[part] += (1 - self.beta) * (power[part] - moment[part])
            m, v = self.moments[:, part]
            p_P[part] -= self.get_lr() * group.lr_scale * m / (np.sqrt(v) + 1e-3)
        self.count += 1

    def state(self):
        return {"moments": self.moments, "count": self.count}


class FlatMean(Optimizer):
    """Momentum in one array of the shape of ``parameters.data``."""

    test_options = ({},)

    def __init__(self, parameters, lr):
        super().__init__(parameters, lr)
        self.mean_P = np.zeros_like(parameters.data)

    def update(self, grad_scale):
        p_P, g_P = self.parameters.data, self.parameters.grad
        for group in self.parameters.groups:
            part = group.slice
            self.mean_P[part] += 0.5 * (g_P[part] - self.mean_P[part])
            p_P[part] -= self.get_lr() * group.lr_scale * self.mean_P[part]

    def state(self):
        return {"mean": self.mean_P}
