"""Which rank of a job has ended first: the launcher of MPI names a process, and ends the others.

The kernel tells as each process ends. Where the first is seen alone, it is the one whose end has
ended the job; where others have followed it before anybody looked, nobody can say.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from tisslm.system.launcher import find_launcher
from tisslm.workflows.launch.left_over import processes_with

__all__ = ["FirstToEnd"]


class FirstToEnd:
    """Holds on to the processes of the ranks, and remembers who was the first to end.

    Parameters
    ----------
    size : int
        How many ranks there are.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._ranks: dict[int, str] = {}
        self._sought = False
        self._told = False
        #: The first rank in words, with its process; "" if that is not known.
        self.who = ""

    @property
    def waited_for(self) -> list[int]:
        """Handles of processes, each ready to be read when it ends; empty once one has."""
        return [] if self._told else list(self._ranks)

    @property
    def is_sought(self) -> bool:
        """Whether ``find`` was called."""
        return self._sought

    def find(self, name: str, value: str) -> None:
        """Find the ranks among this machine's processes, which must all have begun.

        Parameters
        ----------
        name, value : str
            An environment variable that the processes of the job have, and no others.
        """
        self._sought = True
        launchers = {pid: find_launcher(found) for pid, found in processes_with(name, value)}
        ranks = {pid: one.rank for pid, one in launchers.items() if one and one.size == self._size}
        for pid, rank in ranks.items():
            if ranks.get(_parent(pid)) == rank:  # what a rank has started has its environment
                continue
            with contextlib.suppress(OSError):  # it has ended, or the kernel is an old one
                self._ranks[os.pidfd_open(pid)] = f"rank {rank} (process {pid})"

    def note(self, ended: Iterable[int]) -> None:
        """Take note of handles that are ready.

        Parameters
        ----------
        ended : iterable of int
        """
        names = [self._ranks[handle] for handle in ended]
        if names and not self._told:
            self._told = True
            self.who = names[0] if len(names) == 1 else ""

    def close(self) -> None:
        """Let go of the processes."""
        for handle in self._ranks:
            os.close(handle)
        self._ranks = {}


def _parent(pid: int) -> int:
    """Return the parent of a process; 0 if it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
        return int(after_name.split()[1])
    return 0
