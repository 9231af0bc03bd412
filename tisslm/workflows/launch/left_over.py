"""Processes of a job, known by their environment, also where they outlive whoever started them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["end_left_over", "processes_with"]

#: Seconds that killed processes have to vanish, and between looks.
_PATIENCE = 10.0
_LOOK = 0.05


def end_left_over(name: str, value: str) -> None:
    """End all processes that have a variable, and wait until they are gone.

    A run has one trainer: a new start would be refused beside ranks of the one before.

    Parameters
    ----------
    name, value : str
        An environment variable that the processes of one job have, and no others.
    """
    end = time.monotonic() + _PATIENCE
    while (left := list(processes_with(name, value))) and time.monotonic() < end:
        for pid, _ in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK)


def processes_with(name: str, value: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield living processes, other than this one, that have a variable.

    Parameters
    ----------
    name, value : str

    Yields
    ------
    (int, dict)
        Id and environment of each.
    """
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            with contextlib.suppress(OSError):  # another user's, or gone
                lines = (path / "environ").read_bytes().decode(errors="replace").split("\0")
                found = dict(line.split("=", 1) for line in lines if "=" in line)
                if found.get(name) == value:
                    yield int(path.name), found
