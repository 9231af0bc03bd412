"""One trainer per directory: a file that names the process which trains in it.

``.owner.json`` is created by whoever trains and removed at the end; its time is renewed as long as
the process lives. A file whose process is gone is recognized and taken over.

Processes are told apart in ``system.process_identity``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from tisslm.errors import ConfigError
from tisslm.system.process_identity import Identity, is_gone
from tisslm.system.quantities import duration_text

__all__ = ["FILE", "Found", "Owner", "check_free", "owner_of"]

FILE = ".owner.json"

#: Seconds between two renewals of the file.
HEARTBEAT = 20.0

#: Seconds without a renewal after which an owner on another host counts as gone.
SILENCE = 300.0

#: Seconds that a file may be empty, between being created and written.
PATIENCE = 2.0


# --------------------------------------------------------------------------- judging a file


def _why_stale(found: Identity, own: Identity, age: float) -> str:
    """Return why the owner named by a file is gone; "" if it may still be running."""
    if found.host == own.host and found.boot != own.boot:
        return "its machine was started again since"
    if (found.boot, found.namespace) == (own.boot, own.namespace):
        return "it has ended" if is_gone(found.pid, found.ticks) else ""
    if found.job and found.job == own.job and found.restart < own.restart:
        return "its job was started again"
    return f"no sign of life for {duration_text(age)}" if age > SILENCE else ""


def _age(path: Path) -> float:
    """Return the seconds since a file was last renewed, by the clock of its file system."""
    with tempfile.TemporaryFile(dir=path.parent) as now:
        os.utime(now.fileno())
        return os.fstat(now.fileno()).st_mtime - path.stat().st_mtime


def _refusal(path: Path, found: Identity, own: Identity) -> ConfigError:
    if found.pid == own.pid and found.ticks == own.ticks and found.boot == own.boot:
        what = "this process trains in it already"
        advice = "wait until that train() has ended, or choose another training.output_dir"
    else:
        what = f"another trainer is at work in it: {found}"
        advice = "wait for it, stop it, or choose another training.output_dir"
        if (found.boot, found.namespace) != (own.boot, own.namespace):
            advice += f". If it is gone, delete {path}, or wait {SILENCE / 60:.0f} minutes"
    return ConfigError(f"{path.parent}: {what}; {advice}")


def _look(path: Path, own: Identity) -> str | None:
    """Return None if a directory has no owner, and otherwise the owner that is gone, and why.

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
        found = Identity.read(path)
        if found is not None:
            reason = _why_stale(found, own, age)
            if not reason:
                raise _refusal(path, found, own)
            return f"{found}: {reason}"
        if time.monotonic() >= end:
            return "a process that ended before it had said its name"
        time.sleep(0.05)


def check_free(folder: Path) -> None:
    """Raise an error if another trainer is at work in a directory.

    Raises
    ------
    ConfigError
        If there is one.
    """
    path = folder / FILE
    if path.exists():
        with contextlib.suppress(OSError):  # a directory that cannot be written says so later
            _look(path, Identity.own())


# --------------------------------------------------------------------------- looking


@dataclass(frozen=True)
class Found:
    """The owner that a directory's file names.

    Attributes
    ----------
    identity : Identity
    gone : bool
        Whether that process has come to its end for certain.
    age : float
        Seconds since the file was last renewed, by this machine's clock.
    began : float
        When it began to train, in seconds of ``time.time``; 0 if unknown.
    """

    identity: Identity
    gone: bool
    age: float
    began: float


def owner_of(folder: Path) -> Found | None:
    """Return the owner that a directory's file names, None without one; nothing is written."""
    path = folder / FILE
    identity = Identity.read(path)
    try:
        age = max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None
    if identity is None:
        return None
    own = Identity.own()
    try:
        began = datetime.strptime(identity.since, "%Y-%m-%d %H:%M:%S %z").timestamp()
    except (ValueError, OverflowError):
        began = 0.0
    alone = _why_stale(identity, own, 0.0)  # silence is told, and proves nothing
    return Found(identity, bool(alone), age, began)


# --------------------------------------------------------------------------- owning


class Owner:
    """The right of this process to train in a directory, for the duration of a ``with`` block.

    Parameters
    ----------
    folder : Path
        An existing directory.

    Raises
    ------
    ConfigError
        On entering, if another trainer is at work in it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._identity: Identity | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Owner:
        own = Identity.own()
        with _one_at_a_time(self.path.parent):
            left_by = _look(self.path, own)
            if left_by is not None:
                warnings.warn(
                    f"{self.path.parent}: taken over from {left_by}", RuntimeWarning, stacklevel=3
                )
                self._remove()
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

    def _remove(self) -> None:
        try:
            self.path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._refusal(f"removed ({error.strerror}); remove it") from error

    def _refusal(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self.path}, which says who trains in a directory, cannot be {what}, or choose "
            "another training.output_dir"
        )

    def _create(self, own: Identity) -> None:
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
        except OSError as error:  # a full disk
            self._remove()
            raise self._refusal(f"written ({error.strerror}); make room") from error
        self._identity = own

    def move(self, folder: Path) -> None:
        """Continue with a directory that has been renamed."""
        self.path = folder / FILE

    def is_ours(self) -> bool:
        """Return True if the file names this process; in a forked child it names the parent."""
        own = self._identity
        return own is not None and own.pid == os.getpid() and Identity.read(self.path) == own

    def confirm(self) -> None:
        """Raise an error if another process has taken the directory over.

        Raises
        ------
        ConfigError
            If another process has; a file that was merely deleted does not count.
        """
        if not self.is_ours() and self.path.exists():
            found = Identity.read(self.path)
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
    """Hold a lock on the directory, where the file system has locks, while looking at its owner."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
