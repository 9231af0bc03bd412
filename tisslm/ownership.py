"""One trainer per directory: the file that says which process works in it.

``.owner.json`` is created by whoever trains and removed at the end; its time is renewed as long as
the process lives. A file whose process is gone is recognized and taken over.

What does not live here: what the owner writes (``loop``, ``run``).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tisslm.errors import ConfigError

__all__ = ["FILE", "Owner", "check_free"]

FILE = ".owner.json"

#: Seconds between two signs of life.
HEARTBEAT = 20.0

#: Seconds without a sign of life after which an owner on another host counts as gone.
SILENCE = 300.0

#: Seconds that a file may be without its contents: between creating and writing it.
PATIENCE = 2.0

#: Where schedulers keep the number of a job, and Slurm how often it was started again.
_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
_RESTARTS = "SLURM_RESTART_COUNT"


@dataclass(frozen=True)
class _Identity:
    """A process, told from every other one.

    Attributes
    ----------
    host, boot, namespace : str
        Name of the machine, its boot id, and the space of process ids.
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
    def own(cls) -> _Identity:
        """Describe this process."""
        job = next((os.environ[name] for name in _JOBS if os.environ.get(name)), "")
        restart = os.environ.get(_RESTARTS, "")
        return cls(
            host=socket.gethostname(),
            boot=_first_line("/proc/sys/kernel/random/boot_id"),
            namespace=_namespace(),
            pid=os.getpid(),
            ticks=_start_ticks(os.getpid()),
            since=time.strftime("%Y-%m-%d %H:%M:%S %z"),
            command=shlex.join(sys.argv),
            job=job,
            restart=int(restart) if restart.isdecimal() else 0,
        )

    @classmethod
    def read(cls, path: Path) -> _Identity | None:
        """Return what a file says, None if it says nothing of the kind."""
        try:
            found = json.loads(path.read_bytes()[:100_000])
            fits = isinstance(found, dict) and all(
                isinstance(found.get(name), _TYPES[field.type])
                for name, field in cls.__dataclass_fields__.items()
            )
        except (OSError, ValueError, RecursionError):
            return None
        return cls(**{name: found[name] for name in cls.__dataclass_fields__}) if fits else None

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}: {self.command}"


_TYPES: Mapping[object, type] = {"str": str, "int": int}


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
    """Return when a process was started, 0 if that cannot be known, -1 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        state, *rest = fields.rpartition(")")[2].split()
        return -1 if state in "ZX" else int(rest[18])
    except (OSError, ValueError, IndexError):
        return 0


def _is_gone(pid: int, ticks: int) -> bool:
    """Tell whether a process of this machine has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        pass
    now = _start_ticks(pid)
    return now == -1 or bool(now and ticks and now != ticks)


# --------------------------------------------------------------------------- judging a file


def _why_stale(found: _Identity, own: _Identity, age: float) -> str:
    """Return why the owner that a file names is gone, "" if it may be at work."""
    if found.host == own.host and found.boot != own.boot:
        return "its machine was started again since"
    if (found.boot, found.namespace) == (own.boot, own.namespace):
        return "it has ended" if _is_gone(found.pid, found.ticks) else ""
    if found.job and found.job == own.job and found.restart < own.restart:
        return "its job was started again"
    return f"no sign of life for {age:.0f} s" if age > SILENCE else ""


def _age(path: Path) -> float:
    """Return the seconds since a file's last sign of life, by the clock of its file system."""
    with tempfile.TemporaryFile(dir=path.parent) as now:
        os.utime(now.fileno())
        return os.fstat(now.fileno()).st_mtime - path.stat().st_mtime


def _refusal(path: Path, found: _Identity, own: _Identity) -> ConfigError:
    if found.pid == own.pid and found.ticks == own.ticks and found.boot == own.boot:
        what = "this process trains in it already"
        advice = "wait until that train() has ended, or choose another training.output_dir"
    else:
        what = f"another trainer is at work in it: {found}"
        advice = "wait for it, stop it, or choose another training.output_dir"
        if (found.boot, found.namespace) != (own.boot, own.namespace):
            advice += f". If it is gone, delete {path}, or wait {SILENCE / 60:.0f} minutes"
    return ConfigError(f"{path.parent}: {what}; {advice}")


def _look(path: Path, own: _Identity) -> str | None:
    """Return None if nobody owns a directory, or who did until it came to its end.

    Raises
    ------
    ConfigError
        If its owner is at work.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            age = _age(path)
        except FileNotFoundError:
            return None
        found = _Identity.read(path)
        if found is not None:
            reason = _why_stale(found, own, age)
            if not reason:
                raise _refusal(path, found, own)
            return f"{found}: {reason}"
        if time.monotonic() >= end:
            return "a process that ended before it had said its name"
        time.sleep(0.05)


def check_free(folder: Path) -> None:
    """Refuse a directory in which another trainer is at work, before anything is read for a run.

    Raises
    ------
    ConfigError
    """
    path = folder / FILE
    if path.exists():
        with contextlib.suppress(OSError):  # a directory that cannot be written says so later
            _look(path, _Identity.own())


# --------------------------------------------------------------------------- owning


class Owner:
    """The right to train in a directory, for this process, for the duration of a ``with`` block.

    Parameters
    ----------
    folder : Path
        It exists.

    Raises
    ------
    ConfigError
        On entering, if another trainer is at work in it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._identity: _Identity | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Owner:
        own = _Identity.own()
        with _one_at_a_time(self.path.parent):
            left_by = _look(self.path, own)
            if left_by is not None:
                warnings.warn(
                    f"{self.path.parent}: taken over from {left_by}", RuntimeWarning, stacklevel=3
                )
                with contextlib.suppress(FileNotFoundError):
                    self.path.unlink()
            self._create(own)
        self._thread = threading.Thread(target=self._beat, name="tisslm-owner", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(1.0)
        if self.is_ours():
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _create(self, own: _Identity) -> None:
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:  # another one was faster, where directories cannot be locked
            _look(self.path, own)
            raise ConfigError(
                f"{self.path.parent}: another trainer began in it at the same time; start again"
            ) from None
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(json.dumps(asdict(own), indent=1) + "\n")
        except OSError:  # a full disk
            self.path.unlink()
            raise
        self._identity = own

    def is_ours(self) -> bool:
        """Tell whether the file still names this process."""
        return self._identity is not None and _Identity.read(self.path) == self._identity

    def confirm(self) -> None:
        """Make sure that nobody has taken the directory over.

        Raises
        ------
        ConfigError
            If somebody has; a file that was only deleted is no such sign.
        """
        if not self.is_ours() and self.path.exists():
            found = _Identity.read(self.path)
            raise ConfigError(
                f"{self.path.parent}: another trainer has taken it over ({found}); this one stops "
                "and leaves the directory as it is"
            )

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            with contextlib.suppress(OSError):
                if self.is_ours():
                    os.utime(self.path)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process after the other look at a directory's owner, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
