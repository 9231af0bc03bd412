"""A directory by what it is: whether a name still leads to it, and where it is now.

Whoever trains for days writes by names. When somebody renames the directory, removes it, or puts
another one in its place, the same names make a second one that has half of the run.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path

__all__ = ["HeldDirectory"]


class HeldDirectory:
    """A directory that was there once.

    It stays open, so that no other gets its number, until nothing refers to this object.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        If it is not there, or no directory.
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, _close, self._handle)

    def is_at(self, path: Path) -> bool:
        """Tell whether a path leads to it."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._handle))
        except OSError:
            return False

    def find(self) -> Path | None:
        """Return where it is now, None if it was removed or cannot be found."""
        try:
            path = Path(f"/proc/self/fd/{self._handle}").readlink()
        except OSError:
            return None
        return path if self.is_at(path) else None


def _close(handle: int) -> None:
    with contextlib.suppress(OSError):
        os.close(handle)
