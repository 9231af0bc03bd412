"""A directory that is tracked by identity: whether a name still leads to it, and where it is now.

A long run writes by names. When somebody renames the directory, removes it, or puts another one in
its place, the same names create a second directory that holds half of the run.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path

__all__ = ["HeldDirectory"]


class HeldDirectory:
    """An open handle on a directory, by which it is recognized under any name.

    The directory stays open while this object lives, so that its inode number is not given to
    another.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        If the path does not exist, or is no directory.
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, _close, self._handle)

    def is_at(self, path: Path) -> bool:
        """Return True if a path leads to this directory."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._handle))
        except OSError:
            return False

    def make(self, name: Path) -> None:
        """Make a directory below this one, if it is missing, whatever has this one's name by now.

        Parameters
        ----------
        name : Path
            Relative to this directory.

        Raises
        ------
        OSError
            If it cannot be made.
        """
        for part in (*reversed(name.parents), name):
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=self._handle)

    def find(self) -> Path | None:
        """Return the current path of the directory; None if it was removed or cannot be found."""
        try:
            path = Path(f"/proc/self/fd/{self._handle}").readlink()
        except OSError:
            return None
        return path if self.is_at(path) else None


def _close(handle: int) -> None:
    with contextlib.suppress(OSError):
        os.close(handle)
