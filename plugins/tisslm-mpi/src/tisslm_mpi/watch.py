"""The watch of a rank: a thread that ends a job in which nothing goes on, and says who is to blame.

MPI gives transport and no more: with a rank that stands still, that has ended where its launcher
does not care, or behind a cable that was pulled, the others would wait for ever.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tisslm_mpi.judgement import Said, judge, silent
from tisslm_mpi.post import Post

__all__ = ["STALLED", "Wait", "Watch"]

#: What a job ends with that its watch has ended.
STALLED = 76

#: Messages between watches: a question and its answer, an end that a rank would like to have, the
#: refusal of one that waits for it, and the news that all are ended.
_ASK, _SAID, _LEAVE, _NEEDED, _ENDING = range(1, 6)

#: Seconds between questions whether all ranks have come to their end.
_QUICK = 0.01

#: Seconds that a rank which leaves has to be of use to one that waits for it.
_GRACE = 1.0

#: Seconds that a rank which was needed has to end all with its own code.
_OWN_END = 3.0


class Wait:
    """A call that waits.

    Attributes
    ----------
    call : str
    ranks : sequence of int
        For whom, if that is known yet.
    """

    def __init__(self, call: str) -> None:
        self.call = call
        self.ranks: Sequence[int] = ()


class Watch:
    """Counts what a rank gets done, and asks the others where they stand if it gets nothing done.

    Time is counted in looks, not by a clock, so that a process that was stopped for a while does
    not blame the others for it.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._waits: dict[int, Wait] = {}
        self._n_done = 0
        self._beat = "the start"
        self._call = ""
        self._over = False
        self._dumped = False
        self._wake = threading.Event()
        self._leaving: Wait | None = None
        self._end_agreed = False
        self._thread: threading.Thread | None = None

    def start(
        self,
        post: Post,
        names: Sequence[str],
        abort: Callable[[int], object],
        ending: Callable[[], object],
    ) -> None:
        """Begin to watch, once it is known who else there is.

        Parameters
        ----------
        post : Post
        names : sequence of str
            Of the ranks, such as ``rank 1 on node7``.
        abort : callable
            Ends all ranks with a code.
        ending : callable
            Is called when it is known that all ranks will be ended for a stall, by whichever.
        """
        self._post, self._names, self._abort, self._ending = post, names, abort, ending
        self._others = [q for q in range(len(names)) if q != post.rank]
        self._seen, self._idle = self._n_done, 0.0
        self._said: dict[int, Said] = {}
        self._silence: dict[int, float] = {}
        self._left: set[int] = set()
        self._refused = 0.0
        self._thread = threading.Thread(target=self._run, name="watch of the ranks", daemon=True)
        self._thread.start()

    def beat(self, what: str) -> None:
        """Know that this rank goes on, and with what."""
        self._n_done += 1
        self._beat, self._call = what, ""

    def count(self, call: str) -> None:
        """Know that this rank has ended a call."""
        self._n_done += 1
        self._call = call

    @contextmanager
    def waiting(self, call: str) -> Iterator[Wait]:
        """Know that this thread waits in a call."""
        key = threading.get_ident()
        self._waits[key] = wait = Wait(call)
        try:
            yield wait
        finally:
            del self._waits[key]

    def leave(self) -> bool:
        """Wait until every rank wants to end; False if one of them waits for this one instead."""
        wait = Wait("its end")
        wait.ranks = self._others
        self._leaving = wait
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        return self._end_agreed

    @property
    def _tick(self) -> float:
        """Seconds between looks."""
        return min(0.5, self.timeout / 20) if self.timeout else 0.5

    def _run(self) -> None:
        told = False
        passed = 0.0
        while not self._over:
            pause = _QUICK if self._leaving else self._tick
            self._wake.wait(pause)
            self._wake.clear()
            if self._leaving and not told:
                self._post.send_all(_LEAVE)
                told = True
            self._receive()
            # not ``_leaving``, which another thread may have set since the others were told
            if told and len(self._left) == len(self._others) and self._post.is_sent():
                self._end_agreed = self._over = True
            passed += pause
            if passed >= self._tick:
                passed = 0.0
                self._look()

    def _receive(self) -> None:
        for source, kind, data in self._post.receive():
            self._silence[source] = 0.0
            if kind == _ASK:
                self._post.send(source, _SAID, self._state().encode())
            elif kind == _SAID:
                self._said[source] = Said.decode(data)
            elif kind == _LEAVE:
                self._left.add(source)
            elif kind == _NEEDED and self._leaving:
                self._over = True
            elif kind == _ENDING:
                self._dump()

    def _state(self) -> Said:
        wait = self._wait()
        doing = f"{self._beat}, {self._call}" if self._call else self._beat
        return Said(self._idle, wait.call if wait else "", doing)

    def _wait(self) -> Wait | None:
        waits = list(self._waits.values())
        return waits[0] if waits else self._leaving

    def _look(self) -> None:
        if self._n_done != self._seen:
            self._seen, self._idle, self._refused = self._n_done, 0.0, 0.0
            self._said.clear()
            self._silence.clear()
        else:
            self._idle += self._tick
        wait = self._wait()
        if wait is None:
            return
        if wait is not self._leaving and self._idle >= _GRACE:
            self._refuse_to_leave(wait)
        if self.timeout and self._idle >= self.timeout / 2:
            for q in self._others:
                self._silence[q] = self._silence.get(q, 0.0) + self._tick
            self._post.send_all(_ASK)
            if self._idle >= self.timeout and (found := self._judge(wait)):
                self._end(found)

    def _judge(self, wait: Wait) -> str:
        own = self._state()
        found = silent(self.timeout, own, self._silence, self._names)
        if found or wait is self._leaving:  # one that works may do so for long while others end
            return found
        return judge(self.timeout, own, wait.ranks, self._said, self._silence, self._names)

    def _refuse_to_leave(self, wait: Wait) -> None:
        """Tell ranks that want to end that this one waits for them; then end all."""
        gone = sorted(self._left.intersection(wait.ranks))
        if not gone:
            return
        what = f"{', '.join(self._names[q] for q in gone)} ends, and this one waits ({wait.call})"
        if not self._refused:
            self._say(what)
            for q in gone:
                self._post.send(q, _NEEDED)
        self._refused += self._tick
        if self._refused >= _OWN_END:
            self._end(what)

    def _end(self, what: str) -> None:
        self._say(f"{what}. All ranks are ended with code {STALLED}")
        self._dump()
        self._post.send_all(_ENDING)
        for _ in range(100):  # in which the others show their stacks
            time.sleep((self._tick + 0.5) / 100)
            self._post.is_sent()
        self._abort(STALLED)

    def _say(self, what: str) -> None:
        # not by sys.stderr, whose lock a thread that stands still may have
        own = self._names[self._post.rank]
        os.write(2, f"tisslm: {own} of {len(self._names)}: {what}\n".encode())

    def _dump(self) -> None:
        if self._dumped:
            return
        self._dumped = True
        self._ending()
        self._say("stacks of its threads:")
        faulthandler.dump_traceback(2)
