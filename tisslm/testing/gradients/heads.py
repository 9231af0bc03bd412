"""The head with a soft cap of its logits and a factor, by both backward paths, as problems.

The head below each registered loss, without a cap, is in ``losses``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.testing.gradients.layers import buffers, fresh_gradients, gradients_of
from tisslm.testing.gradients.losses import HeadProblem
from tisslm.testing.gradients.problem import Case, Problem

__all__ = ["HeadLogitsProblem", "capped_cases"]

Array = NDArray[Any]

#: Below the size of many of the logits, so that slopes lie between 0 and 1.
CAP = 1.5

#: What muP multiplies the logits of a model by that is a little wider than its base.
FACTOR = 0.75


@final
class HeadLogitsProblem(Problem):
    """All logits of a head, whose gradient comes from outside, as in a custom loop.

    Parameters
    ----------
    dtype : str
    large : bool
    cap, factor : float
        As those of ``HeadProblem``.
    """

    def __init__(self, dtype: str, large: bool, *, cap: float = 0.0, factor: float = 1.0) -> None:
        made = HeadProblem(CrossEntropy, dtype, large, cap=cap, factor=factor)
        self.norm, self.head = made.norm, made.head
        self.stream, self.parameters = made.stream, made.parameters
        self.values = made.values

    def _forward(self) -> tuple[Array, dict[str, Array]]:
        rows = len(self.stream)
        plan = {**self.norm.plan(rows), **self.head.plan(rows)}
        own = {**buffers(plan, "saved"), **buffers(plan, "scratch")}
        self.norm.forward(self.stream, own)
        logits_NV = np.full((len(self.stream), self.head.vocab), np.nan, self.stream.dtype)
        self.head.logits(own, logits_NV)
        return logits_NV, own

    def outputs(self) -> Mapping[str, Array]:
        """Run forward."""
        return {"logits": self._forward()[0]}

    def gradients(self) -> Mapping[str, Array]:
        """Run forward and backward."""
        fresh_gradients(self.parameters)
        logits_NV, own = self._forward()
        dh_NC = np.full_like(self.stream, np.nan)
        self.head.backward_logits(self.weights("logits", logits_NV), own, dh_NC)
        self.norm.backward(self.stream, dh_NC, own)
        return {"stream": dh_NC, **gradients_of(self.parameters)}


def capped_cases() -> list[Case]:
    """Return a case for each backward path through cap, factor, and both."""
    shapes = (("capped", CAP, 1.0), ("scaled", 0.0, FACTOR), ("scaled_capped", CAP, FACTOR))
    found = []
    for name, cap, factor in shapes:
        loss = partial(HeadProblem, CrossEntropy, cap=cap, factor=factor)
        logits = partial(HeadLogitsProblem, cap=cap, factor=factor)
        found += [
            Case(f"head_{name}", "layer", loss),
            Case(f"head_{name}_logits", "layer", logits),
        ]
    return found
