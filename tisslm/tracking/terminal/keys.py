"""Keys of a terminal, one at a time and without waiting for Enter."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import TextIO, final

__all__ = ["Keys", "keys_of"]


@final
class Keys:
    """What is typed, or nothing where nobody can type.

    Parameters
    ----------
    handle : int, optional
        A file descriptor.
    """

    def __init__(self, handle: int | None) -> None:
        self._handle = handle

    def wait(self, seconds: float) -> str:
        """Return what was typed within so many seconds, "" if nothing was."""
        if self._handle is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._handle], [], [], seconds)
        if not ready:
            return ""
        try:
            typed = os.read(self._handle, 1024)
        except OSError:  # a terminal that was closed, or that another job is in front of
            typed = b""
        if not typed:
            self._handle = None
        return typed.decode("ascii", "replace")


@contextlib.contextmanager
def keys_of(stream: TextIO | None = None) -> Iterator[Keys]:
    """Read a terminal key by key for the duration of a ``with`` block, without showing them.

    Parameters
    ----------
    stream : text stream, optional
        ``sys.stdin`` if left out; where it is no terminal, there are no keys.
    """
    stream = sys.stdin if stream is None else stream
    try:
        handle = stream.fileno()
        before = termios.tcgetattr(handle)
    except (OSError, ValueError, AttributeError, termios.error):
        yield Keys(None)
        return
    try:
        tty.setcbreak(handle, termios.TCSANOW)
        yield Keys(handle)
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(handle, termios.TCSANOW, before)
