"""Every registered loss of pairs as a problem for the gradient checks.

The other checks of such a loss are in ``tisslm.testing.losses.preference``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import PreferenceLoss
from tisslm.testing.gradients.problem import Problem
from tisslm.testing.losses.preference import scored_pairs

__all__ = ["PreferenceLossProblem"]

Array = NDArray[Any]


@final
class PreferenceLossProblem(Problem):
    """The losses of some pairs as a function of the log-probabilities of their answers.

    Parameters
    ----------
    make : callable
        Builds the loss.
    dtype : str
        Of the log-probabilities that are given; a loss computes in float64.
    large : bool
    """

    def __init__(self, make: Callable[[], PreferenceLoss], dtype: str, large: bool) -> None:
        self.loss = make()
        self.pairs = scored_pairs(130 if large else 5)
        self.values = {"policy_2P": self.pairs.policy_2P.astype(dtype)}

    def outputs(self) -> Mapping[str, Array]:
        """Return the losses."""
        return {"losses_P": self._value().losses_P}

    def gradients(self) -> Mapping[str, Array]:
        """Return the gradient of the losses."""
        weights_P = self.weights("losses_P", self.pairs.policy_2P[0])
        return {"policy_2P": self._value().d_policy_2P * weights_P}

    def _value(self) -> Any:
        given = self.values["policy_2P"].astype(np.float64)
        return self.loss.value(replace(self.pairs, policy_2P=given))
