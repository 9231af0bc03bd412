"""Leaving a run well: what asks it to end, and the places where it may.

A signal handler sets a flag and does nothing else. The run looks at the flag, and at the time
that is left, where it may stop: between steps, between micro-batches, between the batches of an
evaluation, and while it waits for data. There ``Leave`` is raised; what was begun is dropped, and
the state of the last update is saved.

What is saved then, and how, is in ``loop`` and ``checkpoint.saver``.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from tisslm.system.time_limits import TimeLimit

if TYPE_CHECKING:
    from tisslm.contracts import Communicator

__all__ = [
    "EXIT_CODE",
    "SIGNALS",
    "Leave",
    "Leaving",
    "leave_at_once",
]

#: Exit code of a process that has saved its run and wants to be started again: EX_TEMPFAIL of
#: sysexits.h, "try again later".
EXIT_CODE = 75

#: Open MPI hands on SIGUSR1 and SIGUSR2 alone, Slurm what it is told, people press Ctrl-C, and a
#: terminal that is closed, or a connection that breaks, hangs up.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)

#: Seconds within which a second signal is the first one again: a terminal sends Ctrl-C to a whole
#: group, in which a launcher may hand it on.
ECHO = 0.5

#: Factor by which the next save may take longer than the longest so far.
SAVE_RESERVE = 1.25


class Leave(BaseException):
    """The run is to end here; raised by ``Leaving`` and caught by whoever drives the run.

    No subclass of ``Exception``, so that nothing on the way takes it for an error.

    Attributes
    ----------
    reason : str
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _silent(_: str) -> None:
    """Take an announcement and print nothing, as runs that are not commands do."""


class Leaving:
    """Keeps what asks a run to end, and ends it where it may.

    Parameters
    ----------
    communicator : Communicator, optional
        With several processes, all leave between the same two steps; within a step, none does.

    Attributes
    ----------
    announce : callable
        It is told in one line that the run is about to end, and why.
    save_seconds : callable
        Returns how long a save is expected to take.
    progressed : bool
        Whether this process has made an update. Before, no time limit ends the run, so that one
        which is started again and again comes to its end.
    """

    def __init__(self, communicator: Communicator | None = None) -> None:
        self.communicator = communicator
        self.announce: Callable[[str], None] = _silent
        self.save_seconds: Callable[[], float] = float
        self.progressed = False
        self._limits: tuple[TimeLimit, ...] = ()
        self._asked = ""
        self._asked_at = -math.inf
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()

    @contextmanager
    def armed(self, limits: Iterable[TimeLimit] = ()) -> Iterator[None]:
        """Listen to signals, and heed time limits, for the duration of a ``with`` block.

        Signals reach the main thread only; in another one, nobody listens. A signal that the
        process ignores (``nohup``, a job in the background) stays ignored. What handled them
        before does so again afterwards.
        """
        self._asked, self._limits, self.progressed = "", tuple(limits), False
        if threading.current_thread() is threading.main_thread():
            self._listen()
        try:
            yield
        finally:
            self._restore()
            self._asked, self._limits = "", ()

    def check(self, ahead: float = 0.0) -> None:
        """End the run here if it was asked to, or if time is up: within a step, or an evaluation.

        Parameters
        ----------
        ahead : float
            Seconds that will pass before the next look.

        Raises
        ------
        Leave
        """
        if self.communicator is None or self.communicator.size == 1:
            reason = self._reason(ahead)
            if reason:
                raise Leave(reason)

    def check_together(self, ahead: float = 0.0) -> None:
        """Do what ``check`` does, between two steps: all processes of the run leave, or none.

        Raises
        ------
        Leave
        """
        self.check(ahead)
        if self.communicator is not None and self.communicator.size > 1:
            told = self.communicator.all_gather(self._reason(ahead).encode())
            reasons = [reason.decode() for reason in told if reason]
            if reasons:
                raise Leave(reasons[0])

    def _reason(self, ahead: float) -> str:
        if self._asked or not (self._limits and self.progressed):
            return self._asked
        needed = ahead + SAVE_RESERVE * self.save_seconds()
        now = time.monotonic()
        late = [limit for limit in self._limits if now + needed + limit.safety >= limit.end]
        return late[0].words if late else ""

    # ------------------------------------------------------------------ signals

    def _listen(self) -> None:
        self._process = os.getpid()
        for number in SIGNALS:
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                self._before[number] = signal.signal(number, self._on_signal)

    def _restore(self) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Keep in mind that a signal came; at the second, stop at once.

        A hangup is nobody's impatience: shell and kernel each send one, and systemd one behind
        SIGTERM. So it is never a second signal.
        """
        if os.getpid() != self._process:  # a forked child, whom this run does not concern
            self._restore()
            os.kill(os.getpid(), number)
            return
        now = time.monotonic()
        if not self._asked:
            self._asked, self._asked_at = signal.Signals(number).name, now
        elif now - self._asked_at > ECHO and number != signal.SIGHUP:
            self._restore()
            raise KeyboardInterrupt


@contextmanager
def leave_at_once() -> Iterator[None]:
    """Raise ``Leave`` where a signal arrives: while nothing has been done that could be saved.

    Ctrl-C stays what it was.

    Raises
    ------
    Leave
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise Leave(signal.Signals(number).name)

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if number != signal.SIGINT and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
