"""An optimizer that only has a learning rate."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tisslm.contracts import Optimizer
from tisslm.memory import Parameters


class Idle(Optimizer):
    """Leaves the parameters as they are."""

    def update(self, grad_scale: float) -> None:
        pass


@pytest.fixture(scope="session")
def idle() -> Callable[..., Optimizer]:
    """``idle(lr=0.1)``: an optimizer whose updates do nothing."""
    return _idle


def _idle(lr: float = 0.1) -> Optimizer:
    return Idle(Parameters([]), lr)
