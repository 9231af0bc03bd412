"""Processes of a job that have outlived whoever started them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["end_left_over"]

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
    while (left := list(_with_variable(name, value))) and time.monotonic() < end:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK)


def _with_variable(name: str, value: str) -> Iterator[int]:
    """Yield the ids of living processes, other than this one, that have a variable."""
    wanted = f"{name}={value}".encode()
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            with contextlib.suppress(OSError):  # another user's, or gone
                if wanted in (path / "environ").read_bytes().split(b"\0"):
                    yield int(path.name)
