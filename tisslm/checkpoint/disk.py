"""The durable operations: everything that changes a folder of checkpoints goes through one object.

A file that was written, a name that was given and a directory that was made are on the disk only
after an fsync: of the file, and of the directory that has the name. A test replaces the object by
one that keeps a record, and looks at every state that a power failure may leave.

What does not live here: in which order the operations are called (``writing``, ``litter``).

References
----------
fsync(2); T. S. Pillai et al. All File Systems Are Not Created Equal. OSDI 2014.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from tisslm.checkpoint.digests import Digest
from tisslm.checkpoint.manifest import MANIFEST, FileRecord

__all__ = ["DISK", "Block", "Disk"]

Block = bytes | memoryview

BLOCK = 2**23  # bytes per write: hashing one and writing the next go on at the same time
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


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

    def remove(self, path: Path) -> None:
        """Delete a directory with all that is in it; of a symbolic link to one, the link alone.

        Its manifest goes first: from then on it is no checkpoint, whatever its name.
        """
        if path.is_symlink():
            self._unlink(path)
            return
        entries = sorted(path.iterdir(), key=lambda entry: (entry.name != MANIFEST, entry.name))
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                self.remove(entry)
            else:
                self._unlink(entry)
        self._remove_directory(path)

    def _unlink(self, path: Path) -> None:
        path.unlink()

    def _remove_directory(self, path: Path) -> None:
        path.rmdir()


#: The disk of the machine.
DISK = Disk()
