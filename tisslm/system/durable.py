"""Durable, atomic writing: files that survive a power failure, and are whole or absent.

What was written, renamed or created is on the disk only after an fsync: of the file, and of the
directory that has its name. Everything that changes a folder of checkpoints goes through one
object, ``DISK``; a test replaces it by one that keeps a record, and looks at every state that a
power failure may leave. Single files are written with ``replacing`` or ``write_new_file``.

References
----------
fsync(2); T. S. Pillai et al. All File Systems Are Not Created Equal. OSDI 2014.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tisslm.errors import DataError

__all__ = [
    "DISK",
    "Block",
    "Digest",
    "Disk",
    "FileRecord",
    "replacing",
    "sync",
    "write_new_file",
]

Block = bytes | memoryview
BLOCK = 2**23  # bytes per write: hashing one and writing the next go on at the same time
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True)
class FileRecord:
    """The expected ``size`` of a file in bytes, and its ``sha256`` in hexadecimal."""

    size: int
    sha256: str


class Disk:
    """Operations on the disk: make, write, sync, rename, remove. Failures raise ``OSError``.

    No operation is retried. After an fsync that failed, the pages are dropped and the next one may
    report success, so a file whose fsync failed is lost.
    """

    def make_directory(self, path: Path) -> None:
        """Create a directory, which must not exist."""
        path.mkdir()

    def write_file(self, path: Path, blocks: Iterable[Block]) -> FileRecord:
        """Write a new file and wait until it is on the disk.

        Parameters
        ----------
        path : Path
            Must not exist.
        blocks : iterable of bytes or memoryview
            Its content, one after another.

        Returns
        -------
        FileRecord
            Size and SHA-256 of the blocks, computed while they are written. The file is compared
            with them when it is read.
        """
        handle = os.open(path, _CREATE, 0o666)
        try:
            with Digest() as digest:
                for block in blocks:
                    self._write(handle, memoryview(block).cast("B"), digest)
                os.fsync(handle)
                return FileRecord(digest.size, digest.finish())
        finally:
            os.close(handle)

    def _write(self, handle: int, whole: memoryview, digest: Digest) -> None:
        for start in range(0, len(whole), BLOCK):
            block = whole[start : start + BLOCK]
            position, size = digest.size, len(block)
            digest.update(block)
            while block:
                block = block[os.write(handle, block) :]
            if size == BLOCK:  # the disk begins now, and not when fsync waits for it
                with contextlib.suppress(OSError):  # only a hint, which a sandbox may forbid
                    os.posix_fadvise(handle, position, size, os.POSIX_FADV_DONTNEED)

    def sync_directory(self, path: Path) -> None:
        """Wait until the entries of a directory are on the disk."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        """Rename a directory within its folder, atomically."""
        old.rename(new)

    def put(self, new: Path, place: Path, aside: Path) -> bool:
        """Rename a complete directory to its place; what is there steps aside, and is not lost.

        If the last fsync fails, nothing is undone: whichever of the two names the disk keeps, one
        is whole.

        Returns
        -------
        bool
            Whether there is something aside, which is the caller's to remove.
        """
        replaces = place.exists()
        if replaces:
            self.rename(place, aside)
        try:
            self.rename(new, place)
        except BaseException:
            if replaces:
                self.rename(aside, place)
            raise
        self.sync_directory(place.parent)
        return replaces

    def remove(self, path: Path, first: str) -> None:
        """Delete a directory with its contents; of a symbolic link, only the link.

        The file named ``first`` is deleted first: without its manifest, a directory is no
        checkpoint.
        """
        if path.is_symlink():
            self._unlink(path)
            return
        entries = sorted(path.iterdir(), key=lambda entry: (entry.name != first, entry.name))
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                self.remove(entry, first)
            else:
                self._unlink(entry)
        self._remove_directory(path)

    def _unlink(self, path: Path) -> None:
        path.unlink()

    def _remove_directory(self, path: Path) -> None:
        path.rmdir()


#: The disk of the machine.
DISK = Disk()
_INLINE = 2**18  # bytes up to which a thread would take longer than the hash
_AHEAD = 8  # blocks that may wait to be hashed: bounds the memory of arrays copied to be written


class Digest:
    """The SHA-256 of a sequence of blocks; large blocks are hashed in another thread.

    A block must not change before ``finish`` has returned.

    Attributes
    ----------
    size : int
        Bytes that were added so far.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def update(self, block: memoryview) -> None:
        """Add a block."""
        self.size += len(block)
        if self._thread is None and len(block) <= _INLINE:
            self._hash.update(block)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "tisslm-sha256")
        if len(self._waiting) == _AHEAD:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._hash.update, block))

    def finish(self) -> str:
        """Wait until all blocks are hashed, and return the digest in hexadecimal."""
        while self._waiting:
            self._waiting.popleft().result()
        return self._hash.hexdigest()


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _temporary(path: Path) -> Path:
    """Return the temporary name of a file for this process; a later run removes leftovers."""
    return path.absolute().with_name(f".tmp-{path.name}-{os.getpid()}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a new version of a file, which replaces the old one atomically.

    A reader sees the old file or the new one, and so does the disk after a power failure. If the
    block raises anything, nothing is left behind.

    Raises
    ------
    OSError
        If the disk refuses it; the old file is then untouched.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        DISK.rename(temporary, path.absolute())
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    DISK.sync_directory(temporary.parent)


def write_new_file(path: Path, text: str) -> None:
    """Write a new text file atomically.

    Raises
    ------
    DataError
        If it exists or cannot be written; nothing is left behind.
    """
    temporary = _temporary(path)
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        try:
            DISK.write_file(temporary, [text.encode()])
            os.link(temporary, path)  # unlike a rename, it never replaces a file
            DISK.sync_directory(path.absolute().parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{path}: could not be written ({error.strerror or error}); nothing is left behind. "
            "Choose another --out or free space"
        ) from error
