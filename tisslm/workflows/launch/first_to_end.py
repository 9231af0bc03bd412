"""Which rank of a job has ended first: the launcher of MPI names a process, and ends the others.

The kernel tells as each process has ended, which takes a while: its memory is given back first. The
launcher may have seen it by then, and an end that it caused may be quicker. So the first is known
where no other has so much as begun to end; else nobody can say.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from tisslm.system.launcher import find_launcher
from tisslm.workflows.launch.left_over import processes_with

__all__ = ["FirstToEnd"]

#: Among the flags of a process in /proc/PID/stat (proc_pid_stat(5)): it shuts down (PF_EXITING).
_EXITING = 0x4


class FirstToEnd:
    """Holds on to the processes of the ranks, and remembers who was the first to end.

    Parameters
    ----------
    size : int
        How many ranks there are.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._ranks: dict[int, tuple[int, int]] = {}
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
                self._ranks[os.pidfd_open(pid)] = (rank, pid)

    def note(self, ended: Iterable[int]) -> None:
        """Take note of handles that are ready.

        Parameters
        ----------
        ended : iterable of int
        """
        found = [self._ranks[handle] for handle in ended]
        if found and not self._told:
            self._told = True
            others = [pid for rank, pid in self._ranks.values() if (rank, pid) not in found]
            if len(found) == 1 and not any(map(_is_ending, others)):
                self.who = "rank {} (process {})".format(*found[0])

    def close(self) -> None:
        """Let go of the processes."""
        for handle in self._ranks:
            os.close(handle)
        self._ranks = {}


def _parent(pid: int) -> int:
    """Return the parent of a process; 0 if it is gone."""
    return int(_stat(pid)[1])


def _is_ending(pid: int) -> bool:
    """Tell whether a process ends or has ended."""
    return bool(int(_stat(pid)[6]) & _EXITING)


def _stat(pid: int) -> list[str]:
    """Return what the kernel tells of a process, from its state on; of one that is gone, that."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if len(fields) > 6:
            return fields
    return ["X", "0", "0", "0", "0", "0", str(_EXITING)]
