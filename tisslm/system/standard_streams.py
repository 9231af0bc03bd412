"""The standard streams of a process, which may be closed, full, or read by nobody any more.

Closed ones lead nowhere, as ``/dev/null`` does, and no file that is opened later gets their
numbers. One that fails at a write leads nowhere from then on, so nothing else fails by it: no print
of a plugin, no thread that draws, no flush when Python ends. Whether the first failure ends the
command is the command's to say.
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
    """Standard output does not take what the command is there to show: it ends here."""


@final
class Steady(io.RawIOBase):
    """A handle that is written whole, and that fails once at most.

    Attributes
    ----------
    needed : bool
        Whether ``OutputLost`` is raised where a write fails; else nothing happens.
    failure : OSError, optional
        Why nothing is written any more.
    """

    def __init__(self, handle: int, *, needed: bool) -> None:
        self._handle, self.needed = handle, needed
        self.failure: OSError | None = None

    def writable(self) -> bool:
        """Say yes."""
        return True

    def fileno(self) -> int:
        """Return the handle."""
        return self._handle

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return os.isatty(self._handle)

    def write(self, data: Any, /) -> int:
        """Write all of a buffer, or find out that nobody takes it.

        Raises
        ------
        OutputLost
            If it is needed, at the first failure.
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
    """Make the standard streams of this process such as a program may rely on.

    A character that their encoding lacks is written as its escape.
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
    """Return what is below a stream that ``hold_streams`` has made, None of another one."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, Steady) else None
