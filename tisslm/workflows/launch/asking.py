"""What asks a launcher to end its job: signals, and whether it was asked twice.

The ranks listen to signals as a run does that was started by itself (``training.interruption``).
Here it is kept in mind which signal came, so that it can be handed on.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tisslm.training.interruption import ECHO, SIGNALS

__all__ = ["Asking"]


class Asking:
    """Listens to signals for the duration of a ``with`` block (``armed``).

    Attributes
    ----------
    by : signal.Signals or None
        The first signal that came.
    twice : bool
        Whether another came, later than the first one's echo: all is to end at once. A hangup is
        nobody's impatience.
    """

    def __init__(self) -> None:
        self.by: signal.Signals | None = None
        self.twice = False
        self._at = 0.0

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Listen, in the main thread; what the process ignores stays ignored."""
        before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    before[number] = signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def pause(self, seconds: float) -> None:
        """Wait, or until a signal comes."""
        end = time.monotonic() + seconds
        while self.by is None and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.by is None:
            self.by, self._at = signal.Signals(number), now
        elif now - self._at > ECHO and number != signal.SIGHUP:
            self.twice = True
