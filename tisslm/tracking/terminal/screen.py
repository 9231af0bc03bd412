"""The screen of a terminal, taken for a while and given back as it was.

The picture is drawn on the alternate screen, which has no scroll-back: resizing leaves nothing
behind, and what was there before comes back. Only rows that changed are written. A terminal that is
gone, or that another job is in front of, is left alone.

What does not live here: the picture (``board``), and when it is drawn (sink ``console``, ``top``).

References
----------
ECMA-48, sections 8.3.21 (cursor position) and 8.3.41 (erase in line).
XTerm control sequences, modes 7 (autowrap), 25 (cursor) and 1049 (alternate screen).
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, TextIO, final

from tisslm.tracking.terminal.ink import Ink
from tisslm.tracking.terminal.spans import Line

__all__ = ["Screen", "known_size", "size_of"]

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_CLEAR = "\x1b[2J"
_END_OF_ROW = "\x1b[K"

#: Frames after which every row is written again: something else may have written on the screen.
_WHOLE_EVERY = 20

#: What a terminal is taken to have where it cannot be asked, and the most that is drawn.
_USUAL = os.terminal_size((80, 24))
_LARGEST = os.terminal_size((400, 120))


def known_size(stream: TextIO) -> os.terminal_size | None:
    """Return the columns and rows of a terminal, None of one that does not tell."""
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None
    if found.columns <= 0 or found.lines <= 0:  # a serial line, a pseudo-terminal without size
        return None
    return os.terminal_size(map(min, found, _LARGEST))


def size_of(stream: TextIO) -> os.terminal_size:
    """Return the columns and rows of a terminal; 80 x 24 of one that does not tell."""
    return known_size(stream) or _USUAL


@final
class Screen:
    """A picture on the alternate screen; a context manager.

    Ctrl-Z gives the terminal back, and the picture comes again when the job is in front again.
    That is handled in the main thread only.

    Parameters
    ----------
    stream : text stream
        A terminal with a file descriptor.
    ink : Ink

    Attributes
    ----------
    lost : bool
        True once the terminal has gone; nothing is written then.
    """

    def __init__(self, stream: TextIO, ink: Ink) -> None:
        self.lost = False
        self._stream, self._ink = stream, ink
        self._lock = threading.RLock()
        self._entered = False
        self._rows: list[str] = []
        self._size = _USUAL
        self._frames = 0
        self._process = os.getpid()
        self._before: Any = None
        self._modes: list[Any] = []
        self._draws = self._is_asked = False

    def __enter__(self) -> Screen:
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGTSTP)
            if handler is signal.SIG_DFL:
                self._before = handler
                signal.signal(signal.SIGTSTP, self._suspend)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTSTP, self._before)
            self._before = None
        self.leave()

    @property
    def size(self) -> os.terminal_size:
        """Columns and rows now."""
        return size_of(self._stream)

    def show(self, lines: Sequence[Line], size: os.terminal_size) -> None:
        """Write the rows of a picture that differ from the last one's.

        Parameters
        ----------
        lines : sequence of Line
            No line is wider than the screen.
        size : os.terminal_size
            The size that the lines were drawn for.
        """
        rows = [self._ink.paint(line) for line in lines[: size.lines]]
        with self._drawing():
            if self.lost or os.getpid() != self._process or not self._is_in_front():
                return
            whole = not self._entered or size != self._size or self._frames % _WHOLE_EVERY == 0
            begin = "" if self._entered else self._entry()
            begin += _CLEAR if size != self._size else ""
            old = [] if whole else self._rows
            self._rows, self._size, self._entered = rows, size, True
            self._frames += 1
            changed = (
                f"\x1b[{number};1H{row}{_END_OF_ROW}"
                for number, row in enumerate(rows, 1)
                if number > len(old) or row != old[number - 1]
            )
            self._write(begin + "".join(changed))

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        """Draw alone; a Ctrl-Z that comes meanwhile is answered when the picture is whole."""
        with self._lock:
            self._draws = True
            try:
                yield
            finally:
                self._draws = False
            if self._is_asked:
                self._stop()

    def repaint(self) -> None:
        """Write every row at the next picture."""
        with self._lock:
            self._size = os.terminal_size((0, 0))

    def _entry(self) -> str:
        """Stop what is typed from being shown, which would scroll; return what takes the screen."""
        with contextlib.suppress(OSError, ValueError, termios.error):
            handle = self._stream.fileno()
            self._modes = termios.tcgetattr(handle)
            quiet = [*self._modes]
            quiet[3] &= ~termios.ECHO
            termios.tcsetattr(handle, termios.TCSANOW, quiet)
        return _ENTER

    def leave(self) -> None:
        """Give the terminal back as it was, unless that is done."""
        with self._lock:
            if not self._entered or os.getpid() != self._process:
                return
            self._write(_LEAVE)
            self._entered = False
            if self._modes and self._is_in_front():  # a job behind would be stopped by this
                with contextlib.suppress(OSError, ValueError, termios.error):
                    termios.tcsetattr(self._stream.fileno(), termios.TCSANOW, self._modes)

    def _write(self, text: str) -> None:
        """Write all of a text: an unbuffered stream writes a part of it when a signal comes."""
        if not text or self.lost:
            return
        try:
            self._stream.flush()
            left = memoryview(text.encode(self._stream.encoding, "replace"))
            while left:
                left = left[os.write(self._stream.fileno(), left) :]
        except (OSError, ValueError):  # a terminal that was closed, a stream that was
            self.lost = True

    def _is_in_front(self) -> bool:
        """Tell whether this job may draw; a terminal that controls nobody has no jobs."""
        try:
            return os.tcgetpgrp(self._stream.fileno()) == os.getpgrp()
        except (OSError, ValueError):
            return True

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Give the terminal back, stop as Ctrl-Z asks, and take it again when we go on."""
        with self._lock:  # nobody draws before the process has stopped
            if self._draws:  # this thread does, and the signal came between two of its bytes
                self._is_asked = True
            else:
                self._stop()

    def _stop(self) -> None:
        self._is_asked = False
        self.leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._suspend)
