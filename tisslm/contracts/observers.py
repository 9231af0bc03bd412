"""Who looks on: sinks take metrics, monitors take arrays of a pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from tisslm.contracts.batch import (
    RunInfo,
)

if TYPE_CHECKING:
    pass
from tisslm.contracts.stateful import Stateful

__all__ = [
    "Monitor",
    "Sink",
]

FloatArray = NDArray[Any]


class Sink(Stateful, ABC):
    """A place that metrics are written to."""

    #: The kinds of value that the sink is given: ``float``, ``Histogram``, ``Text``.
    accepts: ClassVar[frozenset[type]] = frozenset({float})

    @abstractmethod
    def open(self, run: RunInfo) -> None:
        """Begin; the run directory exists."""

    @abstractmethod
    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Take the metrics of one step, by name."""

    def sync(self) -> None:
        """Wait until what was written is on disk: a checkpoint of these steps is about to be."""

    def close(self) -> None:
        """End; called once, also after an error."""


class Monitor(Stateful, ABC):
    """An observer of arrays during the pass; it sees read-only views and cannot change the run."""

    #: Of "activations", "attention", "gradients", "updates" and "weights".
    wants: ClassVar[frozenset[str]] = frozenset()

    def turn_to(self, kind: str) -> None:
        """Be told which of the kinds that it wants comes next (for monitors of several)."""

    @abstractmethod
    def observe(self, site: str, array: FloatArray) -> None:
        """Look at one array of floats; the view is valid for this call only.

        A site comes once for each parameter, and in pieces and micro-batches for each activation.
        """

    @abstractmethod
    def metrics(self) -> Mapping[str, object]:
        """Return what was found since the last call, by metric name."""
