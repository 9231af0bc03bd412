"""When the gradients of a bucket are final, as a backward pass says which part it is at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from tisslm.contracts import PassObserver
from tisslm.contracts.pass_observer import Direction
from tisslm.memory import Parameters
from tisslm.training.ranks.layout import Bucket

__all__ = ["Announcer"]


@final
class Announcer(PassObserver):
    """Follows the last backward pass of an update, and says which buckets it is done with.

    A part is done with its gradients when the next one begins; whatever no part has said when the
    pass ends is final then.

    Parameters
    ----------
    parameters : Parameters
    buckets : sequence of Bucket
        In the order in which they are to be told.
    tell : callable
        Is given each bucket once.
    """

    def __init__(
        self, parameters: Parameters, buckets: Sequence[Bucket], tell: Callable[[Bucket], None]
    ) -> None:
        self._parameters = parameters
        self._buckets = list(buckets)
        self._tell = tell
        self._open = {p.name for p in parameters if p.trainable}
        self._of_bucket = [
            {
                p.name
                for p in parameters
                if p.trainable and p.offset < bucket.stop and p.offset + p.size > bucket.start
            }
            for bucket in buckets
        ]
        self._place = ""

    def enter(self, place: str, direction: Direction) -> None:
        """Take note that a part begins, so that the one before it is done."""
        if direction == "backward" and place != self._place:
            done, self._place = self._place, place
            if done:
                self._finish(lambda name: name.startswith(f"{done}."))

    def end(self) -> None:
        """Take note that the pass has ended, or that there is none."""
        self._finish(lambda name: True)

    def _finish(self, is_done: Callable[[str], bool]) -> None:
        for name in [name for name in self._open if is_done(name)]:
            self._open.remove(name)
            self._parameters[name].grad  # noqa: B018  (zeros, where the pass has added nothing)
        while self._buckets and not (self._of_bucket[0] & self._open):
            self._of_bucket.pop(0)
            self._tell(self._buckets.pop(0))
