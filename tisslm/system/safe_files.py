"""Reading untrusted files: regular files only, within limits, with errors of one sentence.

A checkpoint is passed around, and can be cut, mixed up or made to harm. A name never leads to a
device, to a FIFO that nobody writes to or, where files of a checkpoint are read, out of its
directory by a link; and reading never takes more memory than its caller allows. Files that a run
appends to are opened here, too: their names come from configurations.

Contents are parsed in ``strict_json``, ``strict_toml`` and ``tensor_files``; texts to train on are
read in ``streams``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tisslm.errors import CheckpointError, TissLMError

__all__ = ["CHECKPOINT", "Refusal", "RegularFile", "open_at_once", "open_to_append", "show"]

_BLOCK = 2**20  # bytes read together to be hashed: they are in the second-level cache still
_SECTOR = 512  # bytes of what stat counts as blocks
_SHOWN = 60  # characters of a name that a message repeats


@dataclass(frozen=True)
class Refusal:
    """A factory of the exceptions for files that cannot be used.

    Attributes
    ----------
    error : type of TissLMError
    verdict : str
        The conclusion, such as "the checkpoint is damaged or incomplete".
    advice : str
        What the user should do, such as "use an earlier one".
    """

    error: type[TissLMError]
    verdict: str
    advice: str

    def __call__(self, path: str | os.PathLike[str], reason: object) -> TissLMError:
        """Return the exception for a file and a reason."""
        return self.error(f"{os.fspath(path)}: {self.verdict} ({reason}); {self.advice}")


CHECKPOINT = Refusal(
    CheckpointError, "the checkpoint is damaged or incomplete", "use an earlier one"
)


def show(text: object) -> str:
    """Quote a text from a file, shortened, with control characters escaped."""
    name = text if isinstance(text, str) else repr(text)
    return ascii(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")


# --------------------------------------------------------------------------- files

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_at_once(path: str | os.PathLike[str], *, follow: bool = True) -> int:
    """Open a path for reading without blocking, and return the file descriptor.

    A plain open of a FIFO without a writer would block for ever. The caller must check what kind of
    file it has got.

    Parameters
    ----------
    path : str or Path
    follow : bool
        Whether the last part of the path may be a symbolic link.

    Raises
    ------
    OSError
        If it cannot be opened.
    ValueError
        If the path has a zero byte.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    return os.open(path, flags if follow else flags | os.O_NOFOLLOW)


def open_to_append(path: str | os.PathLike[str], *, regular: bool = True) -> IO[bytes]:
    """Open a file to append to, made if it is not there, without waiting for who reads a FIFO.

    Parameters
    ----------
    path : str or Path
    regular : bool
        Whether anything else than a regular file is refused.

    Raises
    ------
    OSError
        If it cannot be opened, is refused, or is a FIFO that nobody reads from.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        reason = "expected a regular file, got a FIFO or a socket" if regular else "nobody reads it"
        raise OSError(error.errno, reason) from None
    try:
        mode = os.fstat(handle).st_mode
        if regular and not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, _not_regular(mode))
        os.set_blocking(handle, True)
        return os.fdopen(handle, "ab")
    except BaseException:
        _close(handle)
        raise


class RegularFile:
    """A regular file that is opened once for reading; renaming it does not affect later reads.

    It is closed by ``close``, at the end of a ``with`` block, or when it is garbage-collected.

    Parameters
    ----------
    path : str or Path
    refusal : Refusal
        Makes the exception for every error of this file.
    follow : bool
        Whether the last part of the path may be a symbolic link.

    Attributes
    ----------
    path : Path
    size : int
        Size in bytes when it was opened.

    Raises
    ------
    TissLMError
        If the file is missing, no regular file, or cannot be opened; ``refusal`` decides which.
    """

    def __init__(
        self, path: str | os.PathLike[str], refusal: Refusal = CHECKPOINT, *, follow: bool = False
    ) -> None:
        self.path = Path(path)
        self.refusal = refusal
        try:
            self._handle = open_at_once(path, follow=follow)
        except (OSError, ValueError) as error:
            raise refusal(path, _open_reason(error, follow)) from None
        self._close = weakref.finalize(self, _close, self._handle)
        try:
            found = os.fstat(self._handle)
        except OSError as error:
            self.close()
            raise refusal(path, error.strerror) from None
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise refusal(path, _not_regular(found.st_mode))
        self.size, self._stored = found.st_size, found.st_blocks * _SECTOR

    def close(self) -> None:
        """Close the file."""
        self._close()

    def __enter__(self) -> RegularFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self) -> os.stat_result:
        """Return the current size, times and links of the file.

        Raises
        ------
        TissLMError
            If the disk fails.
        """
        try:
            return os.fstat(self._handle)
        except OSError as error:
            raise self.refusal(self.path, error.strerror) from error

    def read_into(self, buffer: bytearray | memoryview, offset: int) -> None:
        """Fill a writable buffer with the bytes from ``offset`` on.

        Raises
        ------
        TissLMError
            If the file ends before, or the disk fails.
        """
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._handle, [view[done:]], offset + done)
            except OSError as error:
                raise self.refusal(self.path, error.strerror) from error
            if got == 0:
                raise self.refusal(
                    self.path,
                    f"expected {offset + len(view)} bytes, got {offset + done}: "
                    "the file was cut while it was read",
                )
            done += got

    def blocks(self, start: int = 0) -> Iterator[bytearray]:
        """Yield the bytes from ``start`` on, to the size at opening, in blocks of 1 MiB.

        Raises
        ------
        TissLMError
            If the file ends before, or the disk fails.
        """
        for offset in range(start, self.size, _BLOCK):
            block = bytearray(min(_BLOCK, self.size - offset))
            self.read_into(block, offset)
            yield block

    def read(self, limit: int) -> bytearray:
        """Return all bytes of a file that has at most ``limit``.

        Raises
        ------
        TissLMError
            If it has more, or cannot be read.
        """
        if self.size > limit:
            raise self.refusal(self.path, f"expected at most {limit} bytes, got {self.size}")
        data = bytearray(self.size)
        self.read_into(data, 0)
        return data

    def is_hollow(self) -> bool:
        """Return True for a sparse file that is larger than the memory of the machine."""
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return self.size > memory and self._stored < self.size // 64

    def sha256(self) -> str:
        """Return the SHA-256 of all bytes in hexadecimal, using 1 MiB of memory.

        Raises
        ------
        TissLMError
            If the file cannot be read to its end.
        """
        digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
        for start in range(0, self.size, _BLOCK):
            part = block[: min(_BLOCK, self.size - start)]
            self.read_into(part, start)
            digest.update(part)
        return digest.hexdigest()


def _not_regular(mode: int) -> str:
    return f"expected a regular file, got {_KINDS.get(stat.S_IFMT(mode), 'something else')}"


def _close(handle: int) -> None:
    """Close a file that was read, or is refused: an error then says nothing."""
    with contextlib.suppress(OSError):
        os.close(handle)


def _open_reason(error: OSError | ValueError, follow: bool) -> str:
    if isinstance(error, ValueError):  # a zero byte in the path
        return "expected a path, got one with a zero byte"
    if error.errno == errno.ELOOP and not follow:
        return "expected a regular file, got a symbolic link"
    if error.errno == errno.ENXIO:
        return "expected a regular file, got a socket or a device"
    return error.strerror or str(error)
