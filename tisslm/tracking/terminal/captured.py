"""What a process writes on its terminal while a picture is on it: kept, and written afterwards.

Only streams that lead to a terminal are replaced; what goes to a file goes there as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TextIO, final

from tisslm.tracking.terminal.ink import leads_to_terminal

__all__ = ["Captured"]

#: Characters of a line without an end after which it is one.
_LONGEST = 10_000

_NAMES = ("stdout", "stderr")


@final
class _Lines:
    """A text stream that hands over each whole line; all else is the stream's that it replaces."""

    def __init__(self, stream: TextIO, take: Callable[[str], None]) -> None:
        self._stream, self._take = stream, take
        self._rest = ""

    def write(self, text: str) -> int:
        """Take a text."""
        *lines, self._rest = (self._rest + text).split("\n")
        if len(self._rest) > _LONGEST:
            lines.append(self._rest)
            self._rest = ""
        for line in lines:
            self._take(line)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Take texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing: a line is complete with its end."""

    def finish(self) -> None:
        """Hand over what has no end."""
        if self._rest:
            self._take(self._rest)
            self._rest = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@final
class Captured:
    """Standard output and error, taken from ``start`` to ``stop``.

    Parameters
    ----------
    take : callable
        Gets each line.
    """

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._before: dict[str, TextIO] = {}
        self._ours: dict[str, _Lines] = {}

    def start(self) -> None:
        """Replace those that are terminals."""
        for name in _NAMES:
            stream = getattr(sys, name)
            if leads_to_terminal(stream):
                self._before[name] = stream
                self._ours[name] = _Lines(stream, self._take)
                setattr(sys, name, self._ours[name])

    def stop(self) -> None:
        """Put back what was there, unless somebody else has replaced it since."""
        for name, stream in self._before.items():
            if getattr(sys, name) is self._ours[name]:
                setattr(sys, name, stream)
            self._ours[name].finish()
        self._before, self._ours = {}, {}
