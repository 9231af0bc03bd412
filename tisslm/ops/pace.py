"""How many threads do the same work fastest, found by trying while it is done.

Many short parallel loops, as a decoded token has them, wait for the last thread each time. Where
one core reads nearly as fast as all, or others want the same cores, fewer threads are faster, and
which number is best changes with the load. Results depend on no number of threads, so it may change
with every step.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import final

from tisslm.ops.runtime import pool
from tisslm.ops.threads import ThreadCount

__all__ = ["Pace"]

SAMPLES = 3  # of a number of threads, the median of which counts
STEPS = 32  # between two trials of the neighbours
BETTER = 0.95  # of the time at present: what a neighbour must need at most
WORSE = 1.25  # of it: a neighbour that needs more is not tried again in this trial


@final
class Pace:
    """Runs like steps on all threads, a half of them, a quarter, ... or one, as is fastest.

    Parameters
    ----------
    most : int, optional
        The number of all; left out, that of the process when the first step begins.
    """

    def __init__(self, most: int | None = None) -> None:
        self._counts = _halved(most) if most is not None else []
        self._at = 0
        self._plan: deque[int] = deque()
        self._seconds: dict[int, deque[float]] = {}
        self._until_trial = 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Run what is inside on the number of threads whose turn it is, and take the time."""
        chosen = pool.chosen
        if not self._counts or self._counts[0] > chosen.count:
            self._counts, self._at, self._seconds = _halved(chosen.count), 0, {}
            self._plan.clear()
        pool.chosen = ThreadCount(self.count, "as is fastest")
        start = perf_counter()
        try:
            yield
        finally:
            pool.chosen = chosen
        self.took(perf_counter() - start)

    @property
    def count(self) -> int:
        """The number of threads of the next step."""
        if not self._counts:
            return pool.chosen.count
        return self._counts[self._plan[0] if self._plan else self._at]

    def took(self, seconds: float) -> None:
        """Take note of a step's time, and choose anew where all have been tried."""
        tried = bool(self._plan)
        place = self._plan.popleft() if tried else self._at
        self._seconds.setdefault(place, deque(maxlen=SAMPLES)).append(seconds)
        if tried and place != self._at and seconds > WORSE * self._now():
            del self._seconds[place]  # earlier ones may have been of another load
            self._plan = deque(i for i in self._plan if i != place)
            if set(self._plan) <= {self._at}:  # no neighbour is left: all are far slower
                self._plan.clear()
                return
        if self._plan:
            return
        if tried:
            self._choose()
        elif self._until_trial > 0:
            self._until_trial -= 1
        else:
            self._try_neighbours()

    def _try_neighbours(self) -> None:
        near = [i for i in (self._at, self._at + 1, self._at - 1) if 0 <= i < len(self._counts)]
        if len(near) > 1:
            self._plan.extend(near * SAMPLES)
        self._until_trial = STEPS

    def _now(self) -> float:
        return statistics.median(self._seconds[self._at])

    def _choose(self) -> None:
        near = [i for i in (self._at + 1, self._at - 1) if i in self._seconds]
        best = min(near, key=lambda i: statistics.median(self._seconds[i]))
        if statistics.median(self._seconds[best]) < BETTER * self._now():
            self._at, self._until_trial = best, 0  # its own neighbours are next


def _halved(count: int) -> list[int]:
    """Return a number and its halves, rounded down, to 1."""
    found = [count]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found
