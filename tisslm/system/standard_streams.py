"""Standard streams that never break a program, even if they are closed, full, or have no reader.

Closed streams are replaced by ``/dev/null``, so that no file opened later gets their numbers. A
stream that fails at a write discards everything from then on, so that nothing else fails because of
it: no print of a plugin, no thread that draws, no flush at exit. Whether the first failure ends a
command is decided by the command.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any, TextIO, final

__all__ = ["OutputLost", "Steady", "hold_streams", "steady"]


class OutputLost(Exception):  # noqa: N818 - no fault of the program
    """Standard output has failed, and the command exists only to write to it."""


@final
class Steady(io.RawIOBase):
    """A raw stream that writes whole buffers, and fails at most once.

    Attributes
    ----------
    needed : bool
        Whether a failed write raises ``OutputLost``; if not, it is ignored.
    failure : OSError, optional
        The error of the first failed write, after which nothing is written.
    """

    def __init__(self, handle: int, *, needed: bool) -> None:
        self._handle, self.needed = handle, needed
        self.failure: OSError | None = None

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._handle

    def isatty(self) -> bool:
        """Return True if it is a terminal."""
        return os.isatty(self._handle)

    def write(self, data: Any, /) -> int:
        """Write the whole buffer, or discard it after a failure.

        Raises
        ------
        OutputLost
            At the first failure, if ``needed`` is set.
        """
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            try:
                left = left[os.write(self._handle, left) :]
            except BlockingIOError:  # somebody has made the pipe non-blocking, and it is full
                select.select([], [self._handle], [])
            except OSError as error:
                self._lead_nowhere(error)
                break
        return size

    def _lead_nowhere(self, error: OSError) -> None:
        self.failure = error
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._handle)
            os.close(null)
        if self.needed:
            raise OutputLost from error


def hold_streams() -> None:
    """Replace the standard streams of this process by ones that never break it.

    Characters that an encoding lacks are written as escapes.
    """
    for handle in range(3):
        try:
            os.fstat(handle)
        except OSError:
            _fill(handle)
    # None, if it was closed when Python began; another file may have its number since
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = _held(sys.stdout, needed=True)
    sys.stderr = _held(sys.stderr, needed=False)


def _fill(handle: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null == handle:
        os.set_inheritable(handle, True)  # a child that lacked it would open files in its place
    else:
        os.dup2(null, handle)
        os.close(null)


def _held(stream: TextIO | None, *, needed: bool) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):  # another program's own
        return stream
    try:
        handle = stream.fileno()
    except (OSError, ValueError):  # in memory
        stream.reconfigure(errors="backslashreplace")
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    raw = Steady(handle, needed=needed)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # type: ignore[type-var]
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def steady(stream: TextIO) -> Steady | None:
    """Return the raw stream below one that ``hold_streams`` has made, None for any other."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, Steady) else None
