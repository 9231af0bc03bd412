"""What the ranks load as a plugin: a scheduler, at one of whose steps one of them comes to grief.

It does so once: a run that goes on after that finds the file in which the time of the fault stands.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import final

from tisslm import Entry, hookimpl
from tisslm.contracts import Optimizer, Scheduler
from tisslm.system.launcher import find_launcher

__all__ = ["FAULTS", "STRIKE", "Struck", "tisslm_schedulers"]

#: The variable in which the fault is told to the ranks: :class:`Struck`'s arguments as JSON.
STRIKE = "TISSLM_SOAK_STRIKE"


def _raise() -> None:
    raise RuntimeError("a part of the run has failed")


FAULTS: dict[str, Callable[[], object]] = {
    "kill -9": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSTOP": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "exception": _raise,
    "os._exit(0)": lambda: os._exit(0),
    "_exit(0) of C": lambda: ctypes.CDLL(None)._exit(0),  # which Python does not see
}


@hookimpl
def tisslm_schedulers() -> Iterable[Entry]:
    """Yield struck."""
    yield Entry("struck", "soak.faults.plugin:Struck", "constant, until a fault strikes")


@final
class Struck(Scheduler):
    """The constant learning rate, and a fault after an update, if the environment tells of one."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.start()

    def lr_at(self, step: int) -> float:
        """Return ``base_lr``, if this rank lives on."""
        told = os.environ.get(STRIKE)
        launcher = find_launcher()
        if told and launcher is not None:
            strike(launcher.rank, step, **json.loads(told))
        return self.base_lr


def strike(own: int, now: int, *, rank: int, step: int, mark: str, fault: str | list[str]) -> None:
    """Have the fault happen if rank and step are those; a list is a command that brings it about.

    The time is written before, and nothing happens where one is written already.
    """
    if (own, now) != (rank, step) or Path(mark).exists():
        return
    Path(mark).write_text(repr(time.time()))
    if isinstance(fault, list):
        subprocess.run(fault, check=True, timeout=10)
    else:
        FAULTS[fault]()
