"""A run on the whole terminal, drawn by a thread while the kernels compute.

The thread draws once a second, which takes some milliseconds; ``update`` only remembers numbers. So
a terminal that has stopped taking characters (Ctrl-S) does not stop the run.

What does not live here: the picture (``tisslm.tracking.terminal.board``) and its screen
(``tisslm.tracking.terminal.screen``).
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TextIO, final

from tisslm.checkpoint.run_directory import METRICS
from tisslm.contracts import RunInfo
from tisslm.errors import TissLMError
from tisslm.tracking.terminal.board import Status, draw, record
from tisslm.tracking.terminal.captured import Captured
from tisslm.tracking.terminal.history import History
from tisslm.tracking.terminal.ink import Ink
from tisslm.tracking.terminal.screen import Screen, size_of
from tisslm.tracking.terminal.tail import Tail

__all__ = ["Dashboard"]

#: Seconds between two pictures.
_INTERVAL = 1.0

#: Lines that are kept until the picture has gone.
_SAID = 5000

#: Seconds that closing waits for a picture that the terminal does not take.
_PATIENCE = 2.0


@final
class Dashboard:
    """The picture of a run, until it is closed.

    What is written on the terminal meanwhile is shown as messages; when the picture goes, they are
    written again below each other, and a last picture of numbers and curve stays.

    Parameters
    ----------
    stream : text stream
        A terminal.
    run : RunInfo
        A run that goes on shows what its ``metrics.jsonl`` holds.
    clock : callable
        Seconds.
    """

    def __init__(self, stream: TextIO, run: RunInfo, clock: Callable[[], float]) -> None:
        self._stream, self._run, self._clock = stream, run, clock
        self._ink = Ink.of(stream)
        self._history = _history_of(run)
        self._said: deque[str] = deque(maxlen=_SAID)
        self._lock = threading.RLock()  # what is written meanwhile, as by __del__, comes to say
        self._start = clock()
        self._left: float | None = None
        self._ended = threading.Event()
        self._screen = Screen(stream, self._ink)
        self._captured = Captured(self.say)
        self._screen.__enter__()
        self._captured.start()
        self._thread = threading.Thread(target=self._keep_drawing, name="tisslm-board", daemon=True)
        self._thread.start()

    def update(self, step: int, metrics: Mapping[str, object], left: float | None) -> None:
        """Remember the metrics of a step.

        Parameters
        ----------
        step : int
        metrics : mapping
        left : float, optional
            Seconds until the end of the run.
        """
        with self._lock:
            self._history.record(step, metrics)
            self._left = left if "train/loss" in metrics else self._left

    def say(self, line: str) -> None:
        """Show a line as a message, and write it when the picture has gone."""
        with self._lock:
            self._history.say(line)
        self.aside(line)

    def aside(self, line: str) -> None:
        """Keep a line to be written when the picture has gone."""
        self._said.append(line)

    def close(self) -> None:
        """Give the terminal back, and leave there what was said and the last numbers."""
        self._ended.set()
        self._thread.join(_PATIENCE)
        self._captured.stop()
        if self._thread.is_alive():  # it leaves the screen once the terminal takes characters
            return
        self._screen.__exit__()
        with self._lock:
            columns = size_of(self._stream).columns
            lines = record(self._history, self._status(), columns, self._ink.glyphs)
            painted = [self._ink.paint(line) for line in lines] if self._history.step else []
            text = "\n".join([*self._said, *painted, ""])
        if not self._screen.lost:
            with contextlib.suppress(OSError, ValueError):  # a terminal that has gone
                self._stream.write(text)
                self._stream.flush()

    def _keep_drawing(self) -> None:
        """Draw until the run has ended, and give the terminal back."""
        self._draw_until_ended()
        self._screen.leave()

    def _draw_until_ended(self) -> None:
        while not self._ended.is_set():
            size = self._screen.size
            with self._lock:
                lines = draw(
                    self._history, self._status(), size.columns, size.lines, self._ink.glyphs
                )
            self._screen.show(lines, size)
            if self._screen.lost:
                return
            self._ended.wait(_INTERVAL)

    def _status(self) -> Status:
        done = 0 < self._run.max_steps <= self._history.step
        state = "running" if not self._ended.is_set() else "completed" if done else "ended"
        return Status(
            self._run.name,
            state,
            "good" if state != "ended" else "warn",
            max_steps=self._run.max_steps,
            elapsed=self._clock() - self._start,
            left=None if done else self._left,
            note=str(self._run.directory),
        )


def _history_of(run: RunInfo) -> History:
    """Return what the metrics file of a run says up to where it goes on."""
    history = History(run.declared)
    if run.goes_on:
        with contextlib.suppress(TissLMError):  # the sink that writes the file says what is wrong
            for step, metrics in Tail(run.directory / METRICS).read():
                if step <= run.resumed_step:
                    history.record(step, metrics)
    return history
