"""What leaves the gradients of an update, whatever the model computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from tisslm.config import TrainingConfig
from tisslm.contracts import AnyLoss, Rows
from tisslm.tracking.monitoring import Monitoring
from tisslm.training.components import Components
from tisslm.training.nonfinite.finding import Fault

__all__ = ["Gradients", "Passed"]


class Passed(NamedTuple):
    """What the passes of an update come to.

    Attributes
    ----------
    loss : float
        The mean over all processes, without the loss scale.
    rows, tokens : int
        Of all processes.
    """

    loss: float
    rows: int
    tokens: int


class Gradients(ABC):
    """Runs the passes of an update, in micro-batches, and adds their gradients up.

    Parameters
    ----------
    parts : Components
    config : TrainingConfig
    monitoring : Monitoring
    check : callable
        Called before each pass; what it raises drops the step.
    """

    def __init__(
        self,
        parts: Components,
        config: TrainingConfig,
        monitoring: Monitoring,
        check: Callable[[], None],
    ) -> None:
        self.parts = parts
        self.config = config
        self._monitoring = monitoring
        self._check = check

    @abstractmethod
    def leave(self, rows: Rows, loss: AnyLoss | None = None) -> Passed:
        """Leave the gradients of the mean loss of all ranks' rows, times the loss scale.

        Parameters and errors are those of ``Step.gradients``.
        """

    def located(self, fault: Fault, rows: int) -> Fault:
        """Return a fault with the places that can be told in so many rows; as it is, by default."""
        return fault

    def _announce(self) -> None:
        """Say that a pass begins."""
        self._check()  # which drops what is accumulated, if the run is to end
        self.parts.communicator.beat("a micro-batch")

    def _micro_batches(self, rows: int) -> Iterator[tuple[int, int, AbstractContextManager[None]]]:
        """Yield the micro-batches of this rank's rows, and add up the gradients of leaves between.

        Yields
        ------
        first, stop : int
            The first row, and the one behind the last.
        context
            In which the gradients of the micro-batch are to be added.
        """
        reduction, size = self.parts.reduction, self.config.batch_size
        leaves, begun = list(reduction.share.cut(rows)), False
        for leaf, first, stop in leaves:
            last = leaf == leaves[-1][0]
            if begun:
                self.parts.model.parameters.fresh_part()
            for start in range(first, stop, size):
                end = min(start + size, stop)
                is_over = last and end == stop
                yield start, end, reduction.announced(leaf) if is_over else nullcontext()
                begun = True
            reduction.add_leaf(leaf, last=last)
        reduction.finish()
