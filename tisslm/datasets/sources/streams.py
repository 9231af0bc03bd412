"""Reading the bytes, lines or text of a file that may be compressed, in bounded memory.

Lines are parsed in ``jsonl``, texts are cut into documents in ``text``.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tisslm.errors import DataError
from tisslm.system.safe_files import open_at_once

__all__ = ["MAX_LINE", "open_bytes", "open_regular", "read_lines", "read_text_blocks"]

#: Longest line of a file of records, in bytes; a longer one is no record but another format.
MAX_LINE = 256 * 2**20

#: Bytes that are read and decoded at a time.
BLOCK = 2**20

#: Compressed bytes that are decompressed at a time: at the best ratio of the format, 128 MiB.
ZSTD_BLOCK = 2**12

#: Largest window of a compressed stream, the format's own advice for decoders.
ZSTD_WINDOW = 2**27


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file, decompressing ``.gz`` and ``.zst``; errors of reading become ``DataError``.

    Raises
    ------
    DataError
        If the file is missing, no regular file, unreadable, damaged, or needs a package that is
        not installed.
    """
    try:
        with open_regular(path) as file:
            if path.suffix == ".gz":
                with gzip.open(file) as stream:
                    yield io.BufferedReader(stream, BLOCK)
            elif path.suffix == ".zst":
                with _ZstdStream(file, path) as raw:
                    yield io.BufferedReader(raw, BLOCK)
            else:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, str(error)) from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its "
            "permissions"
        ) from error


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file: a pipe could be read only once, and a device has no end.

    Raises
    ------
    OSError
        If it cannot be opened.
    DataError
        If it is missing or no regular file.
    """
    try:
        handle = open_at_once(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file or folder; give the path of a text, JSON lines or tokens"
        ) from None
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise _irregular(path, 0) from None  # a socket, or a device that is not there
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise _irregular(path, mode)
    return os.fdopen(handle, "rb")


def _irregular(path: Path, mode: int) -> DataError:
    what, advice = "a pipe, a device or a socket", "copy it to one first"
    if stat.S_ISDIR(mode):
        what, advice = "a folder", "name a file of it, or leave the format out to read all of it"
    return DataError(f"{path}: expected a regular file, got {what}; {advice}")


def damaged(path: Path, reason: str) -> DataError:
    """Return the error for a compressed file that ends early or has wrong bytes."""
    return DataError(
        f"{path}: the compressed file is damaged or cut short ({reason}); copy it again"
    )


def read_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield number (from 1), offset and bytes of each line, without a byte order mark.

    Raises
    ------
    DataError
        If the file cannot be read, or a line is longer than ``MAX_LINE``.
    """
    offset = 0
    with open_bytes(path) as stream:
        number = 0
        while line := stream.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise DataError(
                    f"{path}, line {number}: expected at most {MAX_LINE} bytes in a line, got "
                    "more; give a file of one JSON object a line"
                )
            yield number, offset, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            offset += len(line)


def read_text_blocks(path: Path) -> Iterator[str]:
    """Yield a UTF-8 text file in pieces of about a million characters, unchanged.

    Line ends stay; only a byte order mark at the start is removed. A file of any size is read in
    bounded memory.

    Raises
    ------
    DataError
        If the file cannot be read, or is not UTF-8; the message names byte, offset and line.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, lines, first = 0, 1, True
    with open_bytes(path) as stream:
        while True:
            block = stream.read(BLOCK)
            pending = decoder.getstate()[0]
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                place = offset - len(pending) + error.start
                line = lines + error.object.count(b"\n", 0, error.start)
                raise not_utf8(path, error.object[error.start], place, line) from None
            if first and text:
                text, first = text.removeprefix("\ufeff"), False
            if text:
                yield text
            if not block:
                return
            offset += len(block)
            lines += block.count(b"\n")


def not_utf8(path: object, byte: int, offset: int, line: int) -> DataError:
    """Return the error for a byte that is not valid UTF-8."""
    return DataError(
        f"{path}: expected UTF-8 text, got byte 0x{byte:02x} at offset {offset} (line {line}); "
        "convert the file, for example with iconv -t UTF-8"
    )


class _ZstdStream(io.RawIOBase):
    """The decompressed bytes of a ``.zst`` file of one or more frames."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        try:
            import zstandard
        except ImportError:
            raise DataError(
                f"{path}: reading .zst needs the package zstandard; "
                "install it with pip install tisslm[zstd]"
            ) from None
        self._file, self._path = file, path
        self._error = zstandard.ZstdError
        self._expander = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
        self._frame: Any = None
        self._expanded = memoryview(b"")
        self._packed = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next decompressed bytes; 0 means the end."""
        while not self._expanded:
            self._packed = self._packed or self._file.read(ZSTD_BLOCK)
            if not self._packed:
                if self._frame is not None:
                    raise damaged(self._path, "it ends within a frame")
                return 0
            self._expand()
        n = min(len(buffer), len(self._expanded))
        buffer[:n] = self._expanded[:n]
        self._expanded = self._expanded[n:]
        return n

    def _expand(self) -> None:
        if self._frame is None:
            self._frame = self._expander.decompressobj()
        try:
            self._expanded = memoryview(self._frame.decompress(self._packed))
        except self._error as error:
            raise damaged(self._path, str(error)) from error
        self._packed = b""
        if self._frame.eof:
            self._packed, self._frame = self._frame.unused_data, None
