"""How busy the machine's processors are.

References
----------
proc_stat(5), https://man7.org/linux/man-pages/man5/proc_stat.5.html
"""

from __future__ import annotations

import os
import time

__all__ = ["ProcessorUse"]

STAT = "/proc/stat"
SHORTEST = 0.5  # seconds: the system counts in hundredths
IDLE, WAITING, KINDS = 3, 4, 8  # guests' time, which follows, is counted in that of users, too


class ProcessorUse:
    """Share of the processors' time that was not idle since the figure before.

    It counts every process on every processor, so it shows who else is at work.
    """

    def __init__(self) -> None:
        self._line = bytearray(512)  # read into the same bytes each time
        self._since = 0.0
        self._last = (0, 0)
        self._percent: float | None = None

    def begin(self) -> None:
        """Start counting."""
        self._since, self._last = time.perf_counter(), self._times()

    def metrics(self) -> dict[str, float]:
        """Return the use in percent; nothing before half a second has passed."""
        now = time.perf_counter()
        if now - self._since >= SHORTEST:
            busy, total = self._times()
            passed = total - self._last[1]
            if passed > 0:
                share = (busy - self._last[0]) / passed
                self._percent = 100.0 * min(1.0, max(0.0, share))  # counters may step back
                self._since, self._last = now, (busy, total)
        return {} if self._percent is None else {"system/cpu_percent": self._percent}

    def _times(self) -> tuple[int, int]:
        """Return busy and all hundredths of all processors; zeros where nobody counts them."""
        try:
            file = os.open(STAT, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return 0, 0
        try:
            size = os.preadv(file, [self._line], 0)
        finally:
            os.close(file)
        words = self._line[:size].split(b"\n", 1)[0].split()[1 : 1 + KINDS]
        counts = [int(word) for word in words]
        total = sum(counts)
        return total - sum(counts[IDLE : WAITING + 1]), total
