"""Writing that outlives a power failure, and files that are there whole or not at all.

A file that was written, a name that was given and a directory that was made are on the disk only
after an fsync: of the file, and of the directory that has the name. Everything that changes a
folder of checkpoints goes through one object, ``DISK``. A test replaces it by one that keeps a
record, and looks at every state that a power failure may leave. A single file goes through
``replacing`` or ``write_new_file``.

What does not live here: in which order checkpoints are written (``writing``, ``litter``).

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
    """What a file must be: ``size`` in bytes, and its ``sha256`` in hexadecimal."""

    size: int
    sha256: str


class Disk:
    """Make, write, sync, rename and remove; whatever fails raises ``OSError``.

    Nothing is tried again. After an fsync that failed, the pages are dropped and the next one may
    report success, so a file whose fsync failed is lost.
    """

    def make_directory(self, path: Path) -> None:
        """Make one directory, which must not be there."""
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
            Size and SHA-256 of what was to be written, computed on the way: what the disk made of
            it is compared when it is read.
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
        """Wait until the names in a directory are on the disk."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        """Give a directory another name in the same folder, at once for whoever looks."""
        old.rename(new)

    def remove(self, path: Path, first: str) -> None:
        """Delete a directory with all that is in it; of a symbolic link to one, the link alone.

        The file of the name ``first`` goes first: a checkpoint without its manifest is none.
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
    """The SHA-256 of blocks in order; large ones are hashed by a thread of its own.

    A block must not change before ``finish`` has returned.

    Attributes
    ----------
    size : int
        Bytes so far.
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
        """Wait for all blocks and return the digest in hexadecimal."""
        while self._waiting:
            self._waiting.popleft().result()
        return self._hash.hexdigest()


def sync(path: Path) -> None:
    """Wait until a file is on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _temporary(path: Path) -> Path:
    """Return the name under which this process writes a file; a run removes what a kill left."""
    return path.absolute().with_name(f".tmp-{path.name}-{os.getpid()}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file anew, which takes the place of the old one whole or not at all.

    A reader sees the old file or the new one, and so does the disk after a power failure. If the
    block raises anything, nothing is left behind.

    Raises
    ------
    OSError
        If the disk refuses it; what was there is untouched.
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
    """Write a text file that appears when it is whole.

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
