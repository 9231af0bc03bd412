"""A stream that a run can lose without losing more than its lines.

What does not live here: the streams of a command line, which have handles (``tisslm.cli``).
"""

from __future__ import annotations

from typing import Any, TextIO, final

__all__ = ["Forgiving"]


@final
class Forgiving:
    """A text stream that takes everything, also once it has failed; all else is the stream's own.

    Parameters
    ----------
    stream : text stream
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_lost = False

    def write(self, text: str) -> int:
        """Write a text, unless nobody reads any more."""
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written, unless nobody reads any more."""
        self._attempt(self._stream.flush)

    def _attempt(self, action: Any, *arguments: str) -> None:
        if not self._is_lost:
            try:
                action(*arguments)
            except (OSError, ValueError):  # a closed pipe, a full disk, a closed stream
                self._is_lost = True

    def isatty(self) -> bool:
        """Tell whether it is a terminal that is still there."""
        try:
            return not self._is_lost and self._stream.isatty()
        except ValueError:  # a closed stream
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
