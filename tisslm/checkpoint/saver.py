"""Writing checkpoints, either while training waits or in a background thread.

A ``Saver`` takes the state of a run and writes it with a function that it was given. The direct
one returns when the checkpoint is on disk. The background one copies every array to memory that it
allocated before the first step, and a thread writes the copy: training waits for one copy in memory
only. Both write the same bytes.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

from tisslm.checkpoint import Checkpoint
from tisslm.checkpoint.files import ArraysFile
from tisslm.memory.copies import ArrayCopy

__all__ = [
    "BackgroundSaver",
    "CheckpointCopy",
    "DirectSaver",
    "Saver",
    "Write",
    "is_failed_write",
    "make_saver",
]

Arrays = Mapping[str, NDArray[Any]]

#: Writes the checkpoint of a step and returns its directory.
Write = Callable[[int, Checkpoint], Path]

#: Bytes per second that writing is assumed to reach before the first save.
ASSUMED_SPEED = 100e6


def is_failed_write(error: BaseException) -> bool:
    """Return True if an error means that a disk is full, broken or read-only."""
    return isinstance(error.__cause__, OSError)


class Saver(ABC):
    """The base class of savers, which write the checkpoints of a run one after the other.

    Parameters
    ----------
    write : callable
        ``write(step, checkpoint)`` writes it durably and returns its directory.

    Attributes
    ----------
    failures : int
        How many checkpoints in a row, up to the last, could not be written.
    """

    def __init__(self, write: Write) -> None:
        self.write = write
        self._longest = 0.0
        self.failures = 0

    @abstractmethod
    def save(self, step: int, found: Checkpoint) -> None:
        """Save a state; once this has returned, its arrays may change.

        Raises
        ------
        CheckpointError
            If it cannot be written, or the one before it could not.
        """

    def wait(self) -> None:  # noqa: B027 (nothing to wait for)
        """Wait until nothing is being written.

        Raises
        ------
        CheckpointError
            If the last checkpoint could not be written; it is raised once.
        """

    def expected_seconds(self, nbytes: int) -> float:
        """Return the expected seconds of saving ``nbytes``, by the slowest save so far."""
        return self._longest or nbytes / ASSUMED_SPEED

    def write_now(self, step: int, found: Checkpoint) -> Path:
        """Write while the caller waits, after any write in progress, and return the directory.

        Raises
        ------
        CheckpointError
            If it cannot be written, or the one before it could not.
        """
        self.wait()
        return self._timed_write(step, found)

    def _timed_write(self, step: int, found: Checkpoint) -> Path:
        start = time.perf_counter()
        self.failures += 1
        path = self.write(step, found)
        self.failures = 0
        self._longest = max(self._longest, time.perf_counter() - start)
        return path


@final
class DirectSaver(Saver):
    """A saver that writes while training waits."""

    def save(self, step: int, found: Checkpoint) -> None:
        """Write the checkpoint."""
        self._timed_write(step, found)


class CheckpointCopy:
    """Memory for a copy of a run's state, allocated when this object is made.

    Parameters
    ----------
    like : Checkpoint
        A state of the run, whose arrays say how much memory copies need.
    """

    def __init__(self, like: Checkpoint) -> None:
        self._copies = {file: ArrayCopy(arrays) for file, arrays in like.arrays()}

    @property
    def nbytes(self) -> int:
        """The bytes of the copy."""
        return sum(copy.nbytes for copy in self._copies.values())

    def take(self, found: Checkpoint) -> Checkpoint:
        """Return a copy of a state that shares no mutable data; valid until the next call."""
        copies = {file: self._take_arrays(file, arrays) for file, arrays in found.arrays()}
        files = {
            file: copies[file] if file in copies else _plain_copy(content)
            for file, content in found.files.items()
        }
        return replace(found, files=files)

    def _take_arrays(self, file: ArraysFile, arrays: Arrays) -> Arrays:
        if file not in self._copies or not self._copies[file].fits(arrays):  # a state has grown
            self._copies[file] = ArrayCopy(arrays)
        return self._copies[file].take(arrays)


@final
class BackgroundSaver(Saver):
    """A saver that copies the state and writes in a thread; a save waits for the one before it.

    Parameters
    ----------
    write : callable
        Called in another thread: it must use neither kernels nor communicators.
    like : Checkpoint
        A state of the run, whose arrays say how much memory copies need.
    """

    def __init__(self, write: Write, like: Checkpoint) -> None:
        super().__init__(write)
        self._copy = CheckpointCopy(like)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def nbytes(self) -> int:
        """The bytes of the copy."""
        return self._copy.nbytes

    def save(self, step: int, found: Checkpoint) -> None:
        """Copy the state and start writing the copy."""
        self.wait()
        copy = self._copy.take(found)
        self._thread = threading.Thread(
            target=self._work, args=(step, copy), name="tisslm-save", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait for the thread, and raise the error of its write, if any."""
        if self._thread is not None:
            self._thread.join()  # a signal may end it: then the next one waits for this thread
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def expected_seconds(self, nbytes: int) -> float:
        """Return the expected seconds until the next state is on disk, after one in progress."""
        once = super().expected_seconds(nbytes)
        return once if self._thread is None or not self._thread.is_alive() else 2 * once

    def _work(self, step: int, copy: Checkpoint) -> None:
        try:
            self._timed_write(step, copy)
        except BaseException as error:  # it belongs to the thread that saves next
            self._error = error


def make_saver(write: Write, like: Checkpoint, *, background: bool) -> Saver:
    """Return the saver that ``training.async_save`` asks for."""
    return BackgroundSaver(write, like) if background else DirectSaver(write)


def _plain_copy(value: Any) -> Any:
    """Copy nested tables and lists; a long list of numbers is copied as a whole."""
    if isinstance(value, Mapping):
        return {key: _plain_copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        plain = set(map(type, value)) <= {int, float, str, bool, type(None)}
        return list(value) if plain else [_plain_copy(item) for item in value]
    return value
