"""Updated parameters on their way back from the ranks that own them, while the next pass goes on.

A thread shares one bucket after another, in the order in which a forward pass comes to them, and
needs nobody but the same threads of the other ranks. From the first moment on, parameters hand out
no values that are not there (``Parameters.withhold``): a pass waits where it needs them, and so
does whoever else reads them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any, NamedTuple, final

from numpy.typing import NDArray

from tisslm.contracts import Communicator
from tisslm.memory import Parameters
from tisslm.training.ranks.layout import Bucket
from tisslm.training.ranks.reduction import Exchanged

__all__ = ["Parcel", "Returning"]

Array = NDArray[Any]


class Parcel(NamedTuple):
    """A bucket on its way to all ranks.

    Attributes
    ----------
    bucket : Bucket
    own : ndarray
        What this rank sends of it.
    received : sequence of ndarray
        Where the range of each rank belongs.
    """

    bucket: Bucket
    own: Array
    received: Sequence[Array]


@final
class Returning:
    """Brings the parameters of all ranks to all ranks.

    Parameters
    ----------
    channel : Communicator
        Nothing else may be sent through it before ``wait`` has returned.
    parameters : Parameters
        What all ranks read.
    parcels : sequence of Parcel
        In the order in which a forward pass needs them. What is sent must not change before
        ``wait`` has returned.
    note : callable
        Is told of each bucket.
    """

    def __init__(
        self,
        channel: Communicator,
        parameters: Parameters,
        parcels: Sequence[Parcel],
        note: Callable[[Exchanged], None],
    ) -> None:
        self._channel = channel
        self._parameters = parameters
        self._parcels = parcels
        self._note = note
        self._changed = threading.Condition()
        self._n_here = len(parcels)
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begin; from here on, values are handed out as they come."""
        self.wait()
        self._n_here = 0
        self._parameters.withhold(self._until)
        threading.Thread(target=self._work, name="tisslm-return", daemon=True).start()

    def wait(self) -> None:
        """Return when all values are here; raise what has kept the thread."""
        self._until(0, self._parameters.grad_arena.size)

    def _until(self, start: int, stop: int) -> None:
        """Wait for the buckets that have some of a range; they come in their order."""
        needed = 0
        for number, parcel in enumerate(self._parcels, 1):
            if parcel.bucket.start < stop and start < parcel.bucket.stop:
                needed = number
        with self._changed:
            self._changed.wait_for(lambda: self._n_here >= needed or self._error is not None)
            if self._n_here < needed and self._error is not None:
                raise self._error

    def _work(self) -> None:
        try:
            for _, own, received in self._parcels:
                start = perf_counter_ns()
                self._channel.share(own, received)
                self._note(Exchanged("weights", start, perf_counter_ns()))
                with self._changed:
                    self._n_here += 1
                    self._changed.notify_all()
        except BaseException as error:  # it belongs to whoever waits
            with self._changed:
                self._error = error
                self._changed.notify_all()
