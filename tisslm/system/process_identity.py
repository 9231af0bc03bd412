"""Identifying a process uniquely, across machines and restarts.

What follows from a process being alive or gone is decided in ``tisslm.checkpoint.owner``.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tisslm.errors import TissLMError
from tisslm.errors.visible import visible
from tisslm.system.strict_json import read_json

__all__ = ["Identity", "is_gone", "is_of_a_dead_process"]

#: Environment variables with the id of a job, and with the number of its restarts under Slurm.
_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
_RESTARTS = "SLURM_RESTART_COUNT"

#: Characters of a command line that are kept, and bytes that a file may have.
_COMMAND = 2000
MAX_BYTES = 100_000

_CLOCK_SLACK = 2.0  # seconds that a file system's clock may differ from the machine's


@dataclass(frozen=True)
class Identity:
    """What distinguishes a process from every other one.

    Attributes
    ----------
    host, boot, namespace : str
        Name of the machine, its boot id, and its namespace of process ids.
    pid : int
    ticks : int
        Start of the process, in clock ticks since boot.
    since : str
        When it began to train.
    command : str
    job : str
        Number of its job, "" without one.
    restart : int
        How often Slurm has started the job again.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    ticks: int
    since: str
    command: str
    job: str = ""
    restart: int = 0

    @classmethod
    def own(cls) -> Identity:
        """Return the identity of this process."""
        job = next((os.environ[name] for name in _JOBS if os.environ.get(name)), "")
        restart = os.environ.get(_RESTARTS, "")
        return cls(
            host=socket.gethostname(),
            boot=_first_line("/proc/sys/kernel/random/boot_id"),
            namespace=_namespace(),
            pid=os.getpid(),
            ticks=_start_ticks(os.getpid()),
            since=time.strftime("%Y-%m-%d %H:%M:%S %z"),
            command=_command(),
            job=job,
            restart=int(restart) if restart.isdecimal() and len(restart) < 10 else 0,
        )

    @classmethod
    def read(cls, path: Path) -> Identity | None:
        """Read an identity from a file; return None if it has none."""
        try:
            found = read_json(path, MAX_BYTES)
        except TissLMError:
            return None
        if all(_fits(name, found.get(name)) for name in cls.__dataclass_fields__):
            return cls(**{name: found[name] for name in cls.__dataclass_fields__})
        return None

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        words = f"process {self.pid} on {self.host}{job}, since {self.since}: {self.command}"
        return visible(" ".join(words.split()))  # a file says it, and a warning quotes it


#: Ranges of the numbers of a process; the system cannot be asked about others.
_RANGES: Mapping[str, range] = {
    "pid": range(1, 2**31),
    "ticks": range(-1, 2**63),
    "restart": range(2**31),
}


def _fits(name: str, value: object) -> bool:
    """Return True if a value from a file is valid for a field of an identity."""
    if name in _RANGES:
        return type(value) is int and value in _RANGES[name]
    return isinstance(value, str)


def _command() -> str:
    """Return the command line, shortened, with undecodable bytes replaced."""
    text = shlex.join(sys.argv)[:_COMMAND]
    return text.encode("utf-8", "backslashreplace").decode()


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _start_ticks(pid: int) -> int:
    """Return the start time of a process, 0 if it is unknown, -1 if the process has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        state, *rest = fields.rpartition(")")[2].split()
        return -1 if state in "ZX" else int(rest[18])
    except (OSError, ValueError, IndexError):
        return 0


def is_gone(pid: int, ticks: int = 0) -> bool:
    """Return True if a process of this machine has ended.

    Parameters
    ----------
    pid : int
    ticks : int
        The start time of the process in clock ticks. With 0, another process that got the same
        number later is taken for it.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no process has so large a number
        return True
    except OSError:  # another user's
        pass
    now = _start_ticks(pid)
    return now == -1 or bool(now and ticks and now != ticks)


def is_of_a_dead_process(path: Path, pid: int) -> bool:
    """Return True if the process whose id is in a file's name has ended.

    The id may have been reused: the process that made the file cannot have started after it.
    """
    if is_gone(pid):
        return True
    import psutil

    try:
        begun = psutil.Process(pid).create_time()
        return bool(begun > path.stat().st_mtime + _CLOCK_SLACK)
    except (psutil.Error, OSError):
        return False
