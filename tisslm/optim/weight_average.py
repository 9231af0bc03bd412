"""An exponential moving average of the weights, which is evaluated, saved and handed on.

References
----------
B. Polyak and A. Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM Journal on
Control and Optimization 30, 1992.
The warm-up is that of TensorFlow's ``ExponentialMovingAverage`` and diffusers' ``EMAModel``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.config.sections import EmaConfig
from tisslm.memory import Arena, Parameters
from tisslm.memory.shards import ParameterShard

__all__ = ["SLOT", "WeightAverage"]

Array = NDArray[Any]

#: What the name of an averaged parameter ends with in a checkpoint.
SLOT = "average"

#: Numbers that are exchanged at once.
_BLOCK = 2**18


@final
class WeightAverage:
    """A running mean of what an optimizer updates, laid out like it.

    Of several ranks, each has the mean of what it updates. The mean of an element follows from that
    element alone, so it has the same bits for any number of ranks and threads.

    Parameters
    ----------
    parameters : Parameters or ParameterShard
        What is updated on this rank.
    config : EmaConfig

    Attributes
    ----------
    count : int
        Averagings made; while it is 0, the mean is the weights as they are, and its array is only
        so after ``follow``.
    """

    def __init__(self, parameters: Parameters | ParameterShard, config: EmaConfig) -> None:
        self.config = config
        self.count = 0
        self._parameters = parameters
        like_P = parameters.data
        self._average_P: Array = Arena(like_P.nbytes).take(like_P.shape, like_P.dtype)
        self._kept_P = np.empty(min(_BLOCK, like_P.size), like_P.dtype)

    @staticmethod
    def planned(parameters: Parameters | ParameterShard) -> int:
        """Return the bytes that the mean takes."""
        data = parameters.data
        return int(data.nbytes + min(_BLOCK, data.size) * data.itemsize)

    def decay_of(self, number: int) -> float:
        """Return what is kept of the mean at an averaging.

        Parameters
        ----------
        number : int
            From 0, where nothing is kept.
        """
        if number == 0:
            return 0.0
        rising = (1.0 + number) / (10.0 + number)
        return min(self.config.decay, rising) if self.config.warmup else self.config.decay

    def update(self) -> None:
        """Take the weights of an update that was just made into the mean, if it is their turn."""
        made = self._parameters.updates
        if made <= self.config.start or made % self.config.every:
            return
        if self.count == 0:
            self.follow()
        else:
            ops.average(self._average_P, self._parameters.data, self.decay_of(self.count))
        self.count += 1

    def follow(self) -> None:
        """Take the weights as they are, unless there is a mean of them already."""
        if self.count == 0:
            np.copyto(self._average_P, self._parameters.data)

    def swap(self) -> None:
        """Exchange the mean and the weights, exactly: twice is as if it had not been done."""
        data_P, average_P = self._parameters.data, self._average_P
        for start in range(0, data_P.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            kept_P = self._kept_P[: len(data_P[part])]
            np.copyto(kept_P, data_P[part])
            data_P[part] = average_P[part]
            average_P[part] = kept_P

    def state(self) -> dict[str, Array]:
        """Return the mean of each parameter, as a view named ``<parameter>/average``."""
        return self._parameters.by_parameter({SLOT: self._average_P})

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take back what ``state`` has returned, of the same names and shapes."""
        for name, array in self.state().items():
            array[...] = state[name]
